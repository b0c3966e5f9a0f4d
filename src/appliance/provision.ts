// Provisioning: anchors in the TPM, sealed keys, an approval of this machine's state, the enrolment record. Each step is found
// done or is done, and what it made is on the medium before the next one starts, so the same command completes after a kill
// at any instant.
import { existsSync } from 'node:fs';
import type { EnrolmentRecord } from '../attestation/enrolment.ts';
import { CustodyLog } from '../custody/log.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { Failure, zeroizedFailure } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import { findUser } from '../host/privileges.ts';
import { utcNow } from '../host/time.ts';
import { countsWrongTries, handleText, pinnedStorageRoot } from '../keys/anchors.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import { fingerprintOf } from '../keys/policy.ts';
import { sealedKeysIn } from '../keys/sealed.ts';
import { openTpm, type Tpm } from '../tpm/context.ts';
import { TpmError } from '../tpm/responses.ts';
import { anchorNode, type Make, requireUsable } from './anchoring.ts';
import { type Installed, readBrought } from './approvals.ts';
import { approveNow } from './approve-now.ts';
import { assuranceOf, requireSameKind } from './assurance.ts';
import { authoritiesOf } from './authorities.ts';
import type { Config } from './config.ts';
import { askNode, isRunning } from './control.ts';
import { anchorOnce } from './custody-anchor.ts';
import { dryRun } from './dry-run.ts';
import { enrolmentOf } from './enrolment.ts';
import {
  type Assurance,
  makeStateDirectories,
  type NodeRecord,
  readNodeRecord,
  type StateLayout,
  stateLayout,
  writeNodeRecord,
} from './node-record.ts';
import { type OwnedObject, ownedBy } from './ownership.ts';
import { profilePath } from './policies.ts';
import { keysOf, loadProfile, type Profile } from './profile.ts';
import { Progress } from './progress.ts';
import { giveBackResealing, sealMissingKeys } from './sealing.ts';

export interface ProvisionOptions {
  /** Path of a profile; that of the node's role unless told. */
  readonly profile?: string | undefined;
  /** Say what would be done, do nothing. */
  readonly dryRun?: boolean;
  readonly rearm?: boolean;
  /** Path of an approval to put to use. */
  readonly approval?: string | undefined;
  /** Go on where the firmware measured nothing. */
  readonly allowUnmeasured?: boolean;
  readonly onStep?: (step: string) => void;
}

/** The JSON contract of `provision --json` (docs/cli.md). */
export interface ProvisionResult {
  readonly node: string;
  readonly assurance: Assurance;
  readonly tpm: null | {
    readonly tcti: string;
    readonly manufacturer: string;
    readonly firmware: string;
    readonly srk: { readonly handle: string; readonly name: string; readonly adopted: boolean };
    readonly ak: { readonly handle: string; readonly name: string; readonly publicKey: string };
    readonly signingKey: { readonly name: string; readonly publicKey: string };
    /** Hex SHA-256 of the public keys that can open what is sealed. */
    readonly authorities: { readonly policySigner: string; readonly recoveryKey: string };
  };
  readonly keys: readonly {
    readonly name: string;
    readonly purpose: string;
    readonly publicKey: string | null;
    readonly sealed: boolean;
  }[];
  /** Whether the keys open in the present state; null without a TPM. `request`: what the policy signer is to sign. */
  readonly approval: null | { readonly state: 'approved' | 'needed'; readonly request: string | null };
  /** What the node has, or would have, in the TPM. */
  readonly owns: readonly OwnedObject[];
  /** Path of the enrolment record. */
  readonly enrolment: string;
  /** What this run made or changed; empty when everything stood already. */
  readonly changed: readonly string[];
}

/**
 * @throws Failure `zeroized` on a zeroized node without `rearm`; `state-in-use` while the node runs; `approval-needed` where
 * it cannot be re-armed without one; `tpm-still-capped`, `tpm-swapped`, `authorities-changed`, those of `anchorNode`.
 */
export async function provision(config: Config, options: ProvisionOptions = {}): Promise<ProvisionResult> {
  const layout = stateLayout(config.node.state_dir);
  const profile = profileOf(config, options.profile);
  if (options.dryRun === true) return await dryRun(config, layout, wantedKeys(config, profile));
  const { user } = config.courier;
  makeStateDirectories(layout, user === '' ? undefined : findUser(user));
  using _lock = holdLock(layout.lock, `The state directory ${layout.directory}`);
  using custody = CustodyLog.open(layout.custody);
  const lifecycle = new Lifecycle(layout.directory);
  const zeroized = lifecycle.read().state === 'zeroized';
  if (zeroized && options.rearm !== true) throw zeroizedFailure('Provisioning');
  const result = await new ProvisioningRun(config, layout, profile, custody, options, zeroized)
    .complete()
    .catch(resumable);
  const { state } = lifecycle.read();
  if (state !== 'sealed' || result.changed.length > 0) {
    const { assurance, changed } = result;
    custody.append(zeroized ? 're-armed' : 'provisioned', { assurance, changed });
  }
  await anchorOnce(config, layout, readNodeRecord(layout));
  if (state !== 'sealed') {
    lifecycle.clearRunning();
    lifecycle.markSealed();
  }
  return result;
}

/** An approval for the node that runs: nothing but that is done. Undefined where none runs. */
export async function approveRunning(config: Config, path: string): Promise<Installed | undefined> {
  const { control } = stateLayout(config.node.state_dir);
  if (!(await isRunning(control))) return undefined;
  return await askNode<Installed>(control, 'approve', { approval: readBrought(path) });
}

/** The profile that is named, else that of the node's role; a role without one has the keys of its configuration alone. */
function profileOf(config: Config, path: string | undefined): Profile | undefined {
  const chosen = path ?? profilePath(config.node.role);
  return path === undefined && !existsSync(chosen) ? undefined : loadProfile(chosen);
}

/** The keys that a node should have: those of its profile, then those of the configuration. */
const wantedKeys = (config: Config, profile: Profile | undefined): NodeRecord['keys'] =>
  profile === undefined ? config.keys : keysOf(profile, config);

/** The TPM, or the way to it, gave out in the midst of it. */
function resumable(error: unknown): never {
  if (!(error instanceof TpmError) || error.kept !== undefined) throw error;
  const { code, message, rc, layer, remedy } = error;
  throw new TpmError(code, message, rc, layer, {
    kept: 'What was made so far is on record: the same command completes it, and `deprovision` gives it back.',
    ...(remedy === undefined ? {} : { remedy }),
    cause: error,
  });
}

class ProvisioningRun {
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
    if (this.#config.tpm.mode === 'none') {
      const record = known === undefined ? this.#newRecord(null, undefined) : this.#renewed(known, undefined);
      if (known === undefined) this.#save(record);
      return this.#result(record, this.#enrol(record), null);
    }
    await using tpm = await openTpm({ tcti: this.#config.tpm.tcti });
    await tpm.flushAbandoned();
    const progress = new Progress(this.#layout.provisioning);
    const record =
      known === undefined ? await this.#anchor(tpm, progress) : await this.#recognise(tpm, known, progress);
    const sealed = await this.#seal(tpm, record, progress);
    const { approved, approval } = await this.#approve(tpm, sealed);
    progress.finish();
    return this.#result(approved, this.#enrol(approved), approval);
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
    const record = this.#newRecord(anchors, properties.simulator);
    this.#save(record);
    return record;
  }

  /** The TPM and the authorities are those of the first provisioning. */
  async #recognise(tpm: Tpm, known: NodeRecord, progress: Progress): Promise<NodeRecord> {
    const properties = await tpm.properties();
    if (known.tpm !== null) {
      requireUsable(properties, ['owner']);
      await using _srk = await pinnedStorageRoot(tpm, known.tpm);
      const wanted = authoritiesOf(this.#config, this.#layout);
      // A --recover that was broken off may have sealed some keys to others than the record says.
      const held = [known.tpm, ...sealedKeysIn(this.#layout.directory)].map(({ authorities }) => authorities);
      if (held.some(({ signer, recovery }) => signer !== wanted.signer || recovery !== wanted.recovery))
        throw authoritiesChanged();
      await giveBackResealing(tpm, this.#layout, known, progress);
    }
    return this.#renewed(known, properties.simulator);
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
      assurance: assuranceOf(this.#config, simulator, this.#notes(tpm)),
      tpm,
      keys: wantedKeys(this.#config, this.#profile),
    };
  }

  /** With the keys and the bypasses that the configuration has got since the node was provisioned. */
  #renewed(known: NodeRecord, simulator: boolean | undefined): NodeRecord {
    const names = new Set(known.keys.map(({ name }) => name));
    const added = wantedKeys(this.#config, this.#profile).filter(({ name }) => !names.has(name));
    const assurance = assuranceOf(this.#config, simulator, this.#notes(known.tpm));
    const record = { ...known, assurance, keys: [...known.keys, ...added] };
    if (JSON.stringify(record) !== JSON.stringify(known)) this.#save(record);
    return record;
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

  #result(
    record: NodeRecord,
    enrolment: EnrolmentRecord,
    approval: ProvisionResult['approval'],
  ): ProvisionResult {
    return {
      node: record.node,
      assurance: record.assurance,
      tpm: tpmResult(this.#config, record, enrolment),
      keys: record.keys.map((key) => ({
        ...key,
        publicKey: enrolment.keys.find((entry) => entry.name === key.name)?.publicKey ?? null,
        sealed: record.tpm !== null,
      })),
      approval,
      owns: ownedBy(record),
      enrolment: this.#layout.enrolment,
      changed: this.#changed,
    };
  }
}

function tpmResult(config: Config, record: NodeRecord, { tpm }: EnrolmentRecord): ProvisionResult['tpm'] {
  if (tpm === null || record.tpm === null) return null;
  const { authorities, srk } = record.tpm;
  return {
    tcti: config.tpm.tcti,
    manufacturer: tpm.manufacturer,
    firmware: tpm.firmware,
    srk: { handle: handleText(srk.handle), name: srk.name, adopted: srk.adopted },
    ak: { handle: tpm.ak.handle, name: tpm.ak.name, publicKey: tpm.ak.publicKey },
    signingKey: { name: tpm.signingKey.name, publicKey: tpm.signingKey.publicKey },
    authorities: {
      policySigner: fingerprintOf(authorities.signer),
      recoveryKey: fingerprintOf(authorities.recovery),
    },
  };
}

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
