// Provisioning: anchors in the TPM, sealed keys, the enrolment record. Each step is found done or is done, and what it made is
// on the medium before the next one starts, so the same command completes after a kill at any instant.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type EnrolmentRecord, signingKeyQualifyingData } from '../attestation/enrolment.ts';
import { CustodyLog } from '../custody/log.ts';
import { SecretArena } from '../host/arena.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { Failure, zeroizedFailure } from '../host/failure.ts';
import { hardenProcess } from '../host/hardening.ts';
import { holdLock } from '../host/lock.ts';
import { findUser } from '../host/privileges.ts';
import { utcNow } from '../host/time.ts';
import {
  attestationAnchor,
  createSigningKey,
  freeIndex,
  handleText,
  sequenceCounter,
  storageRoot,
} from '../keys/anchors.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import { createSealedKey, readSealedKey } from '../keys/sealed.ts';
import { openTpm, type Tpm } from '../tpm/context.ts';
import { assuranceOf, requireSameKind } from './assurance.ts';
import type { Config } from './config.ts';
import { enrolmentOf } from './enrolment.ts';
import { NodeKeys } from './node-keys.ts';
import {
  type Assurance,
  makeStateDirectories,
  type NodeRecord,
  readNodeRecord,
  type StateLayout,
  stateLayout,
  writeNodeRecord,
} from './node-record.ts';
import { profilePath } from './policies.ts';
import { keysOf, loadProfile, type Profile } from './profile.ts';
import { Progress } from './progress.ts';

export interface ProvisionOptions {
  /** Path of a profile; that of the node's role unless told. */
  readonly profile?: string | undefined;
  /** Say what would be done, do nothing. */
  readonly dryRun?: boolean;
  readonly rearm?: boolean;
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
  };
  readonly keys: readonly {
    readonly name: string;
    readonly purpose: string;
    readonly publicKey: string | null;
    readonly sealed: boolean;
  }[];
  /** Path of the enrolment record. */
  readonly enrolment: string;
  /** What this run made or changed; empty when everything stood already. */
  readonly changed: readonly string[];
}

/** @throws Failure `zeroized` on a zeroized node without `rearm`; `state-in-use` while the node runs. */
export async function provision(config: Config, options: ProvisionOptions = {}): Promise<ProvisionResult> {
  const layout = stateLayout(config.node.state_dir);
  const profile = profileOf(config, options.profile);
  if (options.dryRun === true) return await dryRun(config, layout, profile);
  const { user } = config.courier;
  makeStateDirectories(layout, user === '' ? undefined : findUser(user));
  using _lock = holdLock(layout.lock, `The state directory ${layout.directory}`);
  using custody = CustodyLog.open(layout.custody);
  const lifecycle = new Lifecycle(layout.directory);
  if (lifecycle.read().state === 'zeroized' && options.rearm !== true) throw zeroizedFailure('Provisioning');
  if (lifecycle.read().state === 'zeroized') await requireUncapped(config, layout);
  const run = new ProvisioningRun(config, layout, profile, custody, options.onStep ?? (() => {}));
  const result = await run.complete();
  const { state } = lifecycle.read();
  if (state !== 'sealed' || result.changed.length > 0) {
    const { assurance, changed } = result;
    custody.append(state === 'zeroized' ? 're-armed' : 'provisioned', { assurance, changed });
  }
  if (state !== 'sealed') {
    lifecycle.clearRunning();
    lifecycle.markSealed();
  }
  return result;
}

/** The cap holds until the TPM is reset; until then nothing would unseal, and what is sealed anew would be to the cap. */
async function requireUncapped(config: Config, layout: StateLayout): Promise<void> {
  const { tpm: anchors } = readNodeRecord(layout);
  if (anchors === null || config.tpm.mode === 'none') return;
  await using keys = await NodeKeys.open(config, anchors);
  if ((await keys.capPcr()) === anchors.pcrs[anchors.capPcr]) return;
  throw new Failure('tpm-still-capped', `PCR ${anchors.capPcr} still holds the cap of the zeroize.`, {
    kept: 'The node stays zeroized, and nothing was unsealed or sealed.',
    remedy: 'Reboot the machine, which resets the TPM, then repeat `esoteric-appliance provision --re-arm`.',
  });
}

/** The profile that is named, else that of the node's role; a role without one has the keys of its configuration alone. */
function profileOf(config: Config, path: string | undefined): Profile | undefined {
  const chosen = path ?? profilePath(config.node.role);
  return path === undefined && !existsSync(chosen) ? undefined : loadProfile(chosen);
}

/** The keys that a node should have: those of its profile, then those of the configuration. */
const wantedKeys = (config: Config, profile: Profile | undefined): NodeRecord['keys'] =>
  profile === undefined ? config.keys : keysOf(profile, config);

class ProvisioningRun {
  readonly #config: Config;
  readonly #layout: StateLayout;
  readonly #profile: Profile | undefined;
  readonly #custody: CustodyLog;
  readonly #onStep: (step: string) => void;
  readonly #changed: string[] = [];

  constructor(
    config: Config,
    layout: StateLayout,
    profile: Profile | undefined,
    custody: CustodyLog,
    onStep: (step: string) => void,
  ) {
    this.#config = config;
    this.#layout = layout;
    this.#profile = profile;
    this.#custody = custody;
    this.#onStep = onStep;
  }

  async complete(): Promise<ProvisionResult> {
    const known = readIfPresent(this.#layout.node) === undefined ? undefined : readNodeRecord(this.#layout);
    if (known !== undefined) requireSameKind(this.#config, known);
    if (this.#config.tpm.mode === 'none') {
      const record = known === undefined ? this.#newRecord(null, undefined) : this.#renewed(known, undefined);
      if (known === undefined) this.#save(record);
      return this.#result(record, this.#enrol(record));
    }
    await using tpm = await openTpm({ tcti: this.#config.tpm.tcti });
    await tpm.flushAbandoned();
    const record =
      known === undefined
        ? await this.#anchor(tpm)
        : this.#renewed(known, (await tpm.properties()).simulator);
    await this.#seal(tpm, record);
    return this.#result(record, this.#enrol(record));
  }

  /** Finds or makes the anchors, noting each in a progress file, and writes the node's record at the end. */
  async #anchor(tpm: Tpm): Promise<NodeRecord> {
    const properties = await tpm.properties();
    const { tpm: settings } = this.#config;
    const progress = new Progress(join(this.#layout.directory, 'provisioning.json'));
    const srk = await progress.step('srk', () =>
      this.#made('srk', () => storageRoot(tpm, settings.srk_handle)),
    );
    const ak = await progress.step('ak', () =>
      this.#made('ak', () => attestationAnchor(tpm, settings.ak_handle)),
    );
    const signingKey = await progress.step('signingKey', () =>
      this.#made('signing-key', async () => {
        await using parent = await tpm.at(srk.handle);
        await using attestor = await tpm.at(ak.handle);
        return await createSigningKey(tpm, parent, attestor, signingKeyQualifyingData);
      }),
    );
    const sequenceIndex = await progress.step('sequenceIndex', () => freeIndex(tpm, settings.nv_base));
    await this.#made('sequence-counter', () => sequenceCounter(tpm, sequenceIndex));
    const pcrs = await tpm.pcrRead('sha256', [...settings.pcrs, settings.cap_pcr]);
    const record = this.#newRecord(
      {
        srk,
        ak,
        signingKey,
        sequenceIndex,
        manufacturer: properties.manufacturer,
        firmware: properties.firmware,
        capPcr: settings.cap_pcr,
        pcrs: Object.fromEntries([...pcrs].map(([pcr, value]) => [pcr, Buffer.from(value).toString('hex')])),
        resetCount: properties.resetCount,
        restartCount: properties.restartCount,
      },
      properties.simulator,
    );
    this.#save(record);
    return record;
  }

  async #made<T>(step: string, make: () => Promise<T>): Promise<T> {
    this.#onStep(step);
    const made = await make();
    this.#changed.push(step);
    return made;
  }

  #newRecord(tpm: NodeRecord['tpm'], simulator: boolean | undefined): NodeRecord {
    return {
      format: 'esoteric-appliance-node/1',
      node: this.#config.node.name,
      role: this.#profile?.role ?? this.#config.node.role,
      created: utcNow(),
      assurance: assuranceOf(this.#config, simulator, []),
      tpm,
      keys: wantedKeys(this.#config, this.#profile),
    };
  }

  /** With the keys and the bypasses that the configuration has got since the node was provisioned. */
  #renewed(known: NodeRecord, simulator: boolean | undefined): NodeRecord {
    const names = new Set(known.keys.map(({ name }) => name));
    const added = wantedKeys(this.#config, this.#profile).filter(({ name }) => !names.has(name));
    const assurance = assuranceOf(this.#config, simulator, []);
    const record = { ...known, assurance, keys: [...known.keys, ...added] };
    if (JSON.stringify(record) !== JSON.stringify(known)) this.#save(record);
    return record;
  }

  #save(record: NodeRecord): void {
    writeNodeRecord(this.#layout, record);
    this.#changed.push('node');
  }

  async #seal(tpm: Tpm, record: NodeRecord): Promise<void> {
    if (record.tpm === null) return;
    const missing = record.keys.filter(
      (key) => readSealedKey(this.#layout.directory, key.name) === undefined,
    );
    if (missing.length === 0) return;
    hardenProcess();
    using arena = SecretArena.allocate({ byteLength: 16_384 });
    await using srk = await tpm.at(record.tpm.srk.handle);
    const pcrs = Object.keys(record.tpm.pcrs).map(Number);
    for (const { name, purpose } of missing) {
      await this.#made(`key:${name}`, () =>
        createSealedKey({ tpm, srk, pcrs }, arena, this.#layout.directory, name, purpose),
      );
    }
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

  #result(record: NodeRecord, enrolment: EnrolmentRecord): ProvisionResult {
    const { tpm } = enrolment;
    return {
      node: record.node,
      assurance: record.assurance,
      tpm:
        tpm === null || record.tpm === null
          ? null
          : {
              tcti: this.#config.tpm.tcti,
              manufacturer: tpm.manufacturer,
              firmware: tpm.firmware,
              srk: { ...tpm.srk, adopted: record.tpm.srk.adopted },
              ak: { handle: tpm.ak.handle, name: tpm.ak.name, publicKey: tpm.ak.publicKey },
              signingKey: { name: tpm.signingKey.name, publicKey: tpm.signingKey.publicKey },
            },
      keys: record.keys.map((key) => ({
        ...key,
        publicKey: enrolment.keys.find((entry) => entry.name === key.name)?.publicKey ?? null,
        sealed: record.tpm !== null,
      })),
      enrolment: this.#layout.enrolment,
      changed: this.#changed,
    };
  }
}

/** What a run would make, with nothing made. */
async function dryRun(
  config: Config,
  layout: StateLayout,
  profile: Profile | undefined,
): Promise<ProvisionResult> {
  const keys = wantedKeys(config, profile).map((key) => {
    const sealed = readSealedKey(layout.directory, key.name);
    return { ...key, publicKey: sealed?.publicKey ?? null, sealed: sealed !== undefined };
  });
  const known = readIfPresent(layout.node) === undefined ? undefined : readNodeRecord(layout);
  const newKeys = keys
    .filter((key) => !key.sealed && config.tpm.mode === 'tpm')
    .map((key) => `key:${key.name}`);
  if (config.tpm.mode === 'none') {
    return {
      node: config.node.name,
      assurance: assuranceOf(config, undefined, []),
      tpm: null,
      keys,
      enrolment: layout.enrolment,
      changed: known === undefined ? ['node', 'enrolment'] : [],
    };
  }
  await using tpm = await openTpm({ tcti: config.tpm.tcti });
  const properties = await tpm.properties();
  const handles = await tpm.persistentHandles();
  const anchors = [
    ...(handles.includes(config.tpm.srk_handle) ? [] : [`srk at ${handleText(config.tpm.srk_handle)}`]),
    `ak at ${handleText(config.tpm.ak_handle)}`,
    'signing-key',
    `sequence-counter at ${handleText(await freeIndex(tpm, config.tpm.nv_base))}`,
    'node',
    'enrolment',
  ];
  return {
    node: config.node.name,
    assurance: assuranceOf(config, properties.simulator, []),
    tpm: null,
    keys,
    enrolment: layout.enrolment,
    changed: [...(known === undefined ? anchors : []), ...newKeys],
  };
}
