import type { NodeEndorsement } from '../attestation/endorsement-format.ts';
import type { EnrolmentRecord } from '../attestation/enrolment.ts';
import type { CustodyLog } from '../custody/log.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import { countsWrongTries, pinnedStorageRoot } from '../keys/anchors.ts';
import { sealedKeysIn } from '../keys/sealed.ts';
import { openTpm, type Tpm } from '../tpm/context.ts';
import { anchorNode, type Make, requireUsable } from './anchoring.ts';
import { approveNow } from './approve-now.ts';
import { assuranceOf, requireSameKind } from './assurance.ts';
import { authoritiesOf } from './authorities.ts';
import type { Config } from './config.ts';
import { endorse, kindOf } from './endorsement.ts';
import { enrolmentOf } from './enrolment.ts';
import { type Assurance, type NodeRecord, readNodeRecord, writeNodeRecord } from './node-record.ts';
import { type Profile, wantedKeys } from './profile.ts';
import { Progress } from './progress.ts';
import { type ProvisionResult, resultOf } from './provision-result.ts';
import { giveBackResealing, rotateKeys, sealMissingKeys } from './sealing.ts';
import type { StateLayout } from './state-layout.ts';

export interface ProvisionOptions {
  /** Path of a profile; that of the node's role unless told. */
  readonly profile?: string | undefined;
  /** Say what would be done, do nothing. */
  readonly dryRun?: boolean;
  readonly rearm?: boolean;
  /** Names of keys of links that are to be replaced by fresh ones. */
  readonly rotate?: readonly string[];
  /** Void every approval that was given so far. */
  readonly revoke?: boolean;
  /** Path of an approval to put to use. */
  readonly approval?: string | undefined;
  /** Go on where the firmware measured nothing. */
  readonly allowUnmeasured?: boolean;
  readonly onStep?: (step: string) => void;
  /** Takes what is told of a zeroize that had been interrupted, a line each. */
  readonly log?: (line: string) => void;
}

export class ProvisioningRun {
  readonly #config: Config;
  readonly #layout: StateLayout;
  readonly #profile: Profile | undefined;
  readonly #custody: CustodyLog;
  readonly #options: ProvisionOptions;
  readonly #zeroized: boolean;
  readonly #changed: string[] = [];

  constructor(
    config: Config,
    layout: StateLayout,
    profile: Profile | undefined,
    custody: CustodyLog,
    options: ProvisionOptions,
    zeroized: boolean,
  ) {
    this.#config = config;
    this.#layout = layout;
    this.#profile = profile;
    this.#custody = custody;
    this.#options = options;
    this.#zeroized = zeroized;
  }

  async complete(): Promise<ProvisionResult> {
    const known = readIfPresent(this.#layout.node) === undefined ? undefined : readNodeRecord(this.#layout);
    if (known !== undefined) requireSameKind(this.#config, known);
    const { rotate = [] } = this.#options;
    if (this.#config.tpm.mode === 'none') {
      if (rotate.length > 0) throw nothingToRotate();
      const record = known === undefined ? this.#newRecord(null, undefined) : this.#renewed(known, undefined);
      if (known === undefined) this.#save(record);
      return resultOf(this.#config, this.#layout, record, this.#enrol(record), null, this.#changed);
    }
    await using tpm = await openTpm({ tcti: this.#config.tpm.tcti });
    await tpm.flushAbandoned();
    const progress = new Progress(this.#layout.provisioning);
    const record =
      known === undefined ? await this.#anchor(tpm, progress) : await this.#recognise(tpm, known, progress);
    if (this.#options.revoke === true && record.tpm !== null) await this.#revoke(tpm, record.tpm.armedIndex);
    const rotated = rotate.length === 0 ? record : await this.#rotate(tpm, record, rotate, progress);
    const sealed = await this.#seal(tpm, rotated, progress);
    const { approved, approval } = await this.#approve(tpm, sealed);
    progress.finish();
    return resultOf(this.#config, this.#layout, approved, this.#enrol(approved), approval, this.#changed);
  }

  async #anchor(tpm: Tpm, progress: Progress): Promise<NodeRecord> {
    const properties = await tpm.properties();
    const anchors = await anchorNode({
      tpm,
      properties,
      settings: this.#config.tpm,
      authorities: authoritiesOf(this.#config, this.#layout),
      progress,
      made: this.#made,
      allowUnmeasured: this.#options.allowUnmeasured === true,
    });
    const endorsement = await this.#endorse(tpm, anchors.ak.handle);
    const record = this.#newRecord({ ...anchors, endorsement }, properties.simulator);
    this.#save(record);
    return record;
  }

  /** The TPM and the authorities are those of the first provisioning. */
  async #recognise(tpm: Tpm, known: NodeRecord, progress: Progress): Promise<NodeRecord> {
    const properties = await tpm.properties();
    if (known.tpm === null) return this.#renewed(known, properties.simulator);
    requireUsable(properties, ['owner']);
    await using _srk = await pinnedStorageRoot(tpm, known.tpm);
    const wanted = authoritiesOf(this.#config, this.#layout);
    // A --recover that was broken off may have sealed some keys to others than the record says.
    const held = [known.tpm, ...sealedKeysIn(this.#layout.directory)].map(({ authorities }) => authorities);
    if (held.some(({ signer, recovery }) => signer !== wanted.signer || recovery !== wanted.recovery))
      throw authoritiesChanged();
    await giveBackResealing(tpm, this.#layout, known, progress, this.#options.rotate ?? []);
    const { endorsement } = known.tpm;
    // What CAs that were named only then said of the certificate holds on.
    const again = endorsement === undefined || this.#config.tpm.ek_ca !== '';
    return this.#renewed(
      known,
      properties.simulator,
      again ? await this.#endorse(tpm, known.tpm.ak.handle) : endorsement,
    );
  }

  /** Approvals name the value of the armed counter, which never goes back. Repeated after a kill, it goes up once more. */
  async #revoke(tpm: Tpm, armedIndex: number): Promise<void> {
    await tpm.nvIncrement(armedIndex);
    this.#custody.append('approvals-revoked', { counter: String(await tpm.nvReadCounter(armedIndex)) });
    this.#changed.push('armed-counter');
  }

  /** Whether the TPM is tied to its maker, and the attestation key to the TPM. */
  #endorse(tpm: Tpm, akHandle: number): Promise<NodeEndorsement> {
    return endorse(tpm, { akHandle, ekCa: this.#config.tpm.ek_ca, at: new Date() });
  }

  async #rotate(
    tpm: Tpm,
    record: NodeRecord,
    names: readonly string[],
    progress: Progress,
  ): Promise<NodeRecord> {
    if (record.tpm === null) throw nothingToRotate();
    const { tpm: settings } = this.#config;
    const shares = await rotateKeys(
      tpm,
      settings,
      this.#layout,
      record,
      record.tpm,
      names,
      progress,
      this.#made,
    );
    const rotated = { ...record, tpm: { ...record.tpm, shares } };
    writeNodeRecord(this.#layout, rotated);
    return rotated;
  }

  async #seal(tpm: Tpm, record: NodeRecord, progress: Progress): Promise<NodeRecord> {
    if (record.tpm === null) return record;
    const { tpm: settings } = this.#config;
    const shares = await sealMissingKeys(
      tpm,
      settings,
      this.#layout,
      record,
      record.tpm,
      progress,
      this.#made,
    );
    if (JSON.stringify(shares) === JSON.stringify(record.tpm.shares)) return record;
    const sealed = { ...record, tpm: { ...record.tpm, shares } };
    writeNodeRecord(this.#layout, sealed);
    return sealed;
  }

  /** With the PCR values that the approval is for, where there is one. */
  async #approve(
    tpm: Tpm,
    record: NodeRecord,
  ): Promise<{ approved: NodeRecord; approval: ProvisionResult['approval'] }> {
    if (record.tpm === null) return { approved: record, approval: null };
    const outcome = await approveNow({
      tpm,
      config: this.#config,
      layout: this.#layout,
      record,
      anchors: record.tpm,
      custody: this.#custody,
      path: this.#options.approval,
      zeroized: this.#zeroized,
    });
    this.#changed.push(...outcome.changed);
    if (outcome.pcrs === null) {
      return { approved: record, approval: { state: 'needed', request: this.#layout.approvalRequest } };
    }
    const approval = { state: 'approved', request: null } as const;
    if (JSON.stringify(outcome.pcrs) === JSON.stringify(record.tpm.pcrs))
      return { approved: record, approval };
    const approved = { ...record, tpm: { ...record.tpm, pcrs: outcome.pcrs } };
    this.#save(approved);
    return { approved, approval };
  }

  readonly #made: Make = async (step, work) => {
    this.#options.onStep?.(step);
    const made = await work();
    this.#changed.push(step);
    return made;
  };

  #newRecord(tpm: NodeRecord['tpm'], simulator: boolean | undefined): NodeRecord {
    return {
      format: 'esoteric-appliance-node/1',
      node: this.#config.node.name,
      role: this.#profile?.role ?? this.#config.node.role,
      created: utcNow(),
      assurance: this.#assurance(tpm, simulator),
      tpm,
      keys: wantedKeys(this.#config, this.#profile),
    };
  }

  /** With the keys and the bypasses that the configuration has got since the node was provisioned. */
  #renewed(known: NodeRecord, simulator: boolean | undefined, endorsement?: NodeEndorsement): NodeRecord {
    const names = new Set(known.keys.map(({ name }) => name));
    const added = wantedKeys(this.#config, this.#profile).filter(({ name }) => !names.has(name));
    const tpm = known.tpm === null || endorsement === undefined ? known.tpm : { ...known.tpm, endorsement };
    const assurance = this.#assurance(tpm, simulator);
    const record = { ...known, assurance, tpm, keys: [...known.keys, ...added] };
    if (JSON.stringify(record) !== JSON.stringify(known)) this.#save(record);
    return record;
  }

  #assurance(tpm: NodeRecord['tpm'], simulator: boolean | undefined): Assurance {
    const kind = tpm?.endorsement && kindOf(tpm.endorsement, simulator === true);
    return assuranceOf(this.#config, simulator, this.#notes(tpm), kind);
  }

  /** What is said of a machine whose firmware measured nothing, and of a TPM whose storage root key others made. */
  #notes(tpm: NodeRecord['tpm']): string[] {
    const blank = this.#config.tpm.pcrs.filter((pcr) => /^(?:0+|f+)$/.test(tpm?.pcrs[pcr] ?? ''));
    return [
      ...(blank.length === 0 ? [] : [`no measured boot: nothing is in PCR ${blank.join(', ')}`]),
      ...(tpm !== null && countsWrongTries(tpm.srk.public)
        ? [
            'the storage root key that was adopted counts wrong tries, power cuts among them: a lockout of the TPM stops this node too',
          ]
        : []),
    ];
  }

  #save(record: NodeRecord): void {
    writeNodeRecord(this.#layout, record);
    if (!this.#changed.includes('node')) this.#changed.push('node');
  }

  /** The enrolment record as it should stand; written only where it does not. */
  #enrol(record: NodeRecord): EnrolmentRecord {
    const enrolment = enrolmentOf(record, this.#layout, this.#custody.head());
    const present = readIfPresent(this.#layout.enrolment);
    if (present !== undefined) {
      // When it was written, and the head of then, change with each writing and are no reason for one.
      const { custodyHead: _head, created: _created, ...former } = JSON.parse(present) as EnrolmentRecord;
      const { custodyHead: _newHead, created: _now, ...now } = enrolment;
      // Volatile keys are the last run's to write.
      if (record.tpm === null) now.keys = former.keys;
      if (JSON.stringify(former) === JSON.stringify(now)) return enrolment;
    }
    writeDurably(this.#layout.enrolment, `${JSON.stringify(enrolment, null, 2)}\n`, 0o644);
    this.#changed.push('enrolment');
    return enrolment;
  }
}

const nothingToRotate = (): Failure =>
  new Failure('no-tpm', 'This node has no TPM: its keys are new at each start.', {
    kept: 'Nothing was changed.',
    remedy: 'Restart the node, and give its new enrolment record to its peers.',
  });

const authoritiesChanged = (): Failure =>
  new Failure(
    'authorities-changed',
    'The keys of this node are sealed to another policy signer or recovery key.',
    {
      kept: 'Nothing was changed.',
      remedy:
        'Put tpm.policy_signer and tpm.recovery_key back, or reseal with the recovery key: `esoteric-appliance provision --recover`.',
    },
  );
