// A node's TPM and state directory on a bench where the power can be cut at any TPM command, and both be put back to what they
// were before. The commands are called in this process: what is tried is what they leave behind, over and over.
import { createHash, generateKeyPairSync } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { answerChallenge } from '../../src/appliance/approve.ts';
import type { Config } from '../../src/appliance/config.ts';
import { configSchema } from '../../src/appliance/config-schema.ts';
import { type Deprovisioned, deprovision } from '../../src/appliance/deprovision.ts';
import { NodeKeys } from '../../src/appliance/node-keys.ts';
import { readNodeRecord } from '../../src/appliance/node-record.ts';
import { provision } from '../../src/appliance/provision.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import type { ProvisionOptions } from '../../src/appliance/provisioning-run.ts';
import { parseSignature, recover } from '../../src/appliance/recover.ts';
import { type StateLayout, stateLayout } from '../../src/appliance/state-layout.ts';
import { SecretArena } from '../../src/host/arena.ts';
import { Failure } from '../../src/host/failure.ts';
import { handleText } from '../../src/keys/anchors.ts';
import { readSealedKey } from '../../src/keys/sealed.ts';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import type { TpmProperties } from '../../src/tpm/properties.ts';
import { BusSearch } from '../lab/bus.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';
import { TpmProxy } from '../lab/tpm-proxy.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const stateFile = 'tpm2-00.permall';

export type When = 'before' | 'after';

/** All that a TPM keeps and shows, by handle as the tools write it. */
export interface Holdings {
  /** Names. */
  readonly objects: Readonly<Record<string, string>>;
  /** TPMS_NV_PUBLIC. */
  readonly indices: Readonly<Record<string, string>>;
  readonly lockout: TpmProperties['lockout'];
}

export class Bench implements AsyncDisposable {
  readonly directory: string;
  readonly swtpm: Swtpm;
  readonly proxy: TpmProxy;
  readonly arena: SecretArena = SecretArena.allocate({ allowSwappable: true });
  readonly #search = new BusSearch();

  private constructor(directory: string, swtpm: Swtpm, proxy: TpmProxy) {
    this.directory = directory;
    this.swtpm = swtpm;
    this.proxy = proxy;
  }

  static async start(): Promise<Bench> {
    // In memory where that is possible: hundreds of runs, each of which waits for the medium at every step.
    const place = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
    const directory = mkdtempSync(join(place, 'ea-power-'));
    const swtpm = await startSwtpm(join(directory, 'tpm'));
    const bench = new Bench(directory, swtpm, await TpmProxy.start(swtpm));
    await bench.boot();
    return bench;
  }

  get layout(): StateLayout {
    return stateLayout(join(this.directory, 'state'));
  }

  /** Of the node, which reaches its TPM through the proxy unless told. */
  config(tpm: Partial<Config['tpm']> = {}): Config {
    return configSchema.parse({
      node: { name: 'bench', role: 'relay', state_dir: this.layout.directory },
      tpm: { tcti: this.proxy.tcti, stand_ins: ['swtpm'], ...tpm },
    });
  }

  /** A start of the machine: the TPM is reset, and the firmware measures. */
  async boot(): Promise<void> {
    await this.swtpm.restart();
    await using tpm = await this.open();
    for (const pcr of [0, 7]) {
      await tpm.pcrExtend(pcr, { sha256: createHash('sha256').update(`firmware ${pcr}`).digest() });
    }
    this.proxy.reset();
  }

  /** The TPM as others reach it: no command is counted. */
  open(): Promise<Tpm> {
    return openTpm({ tcti: this.swtpm.tcti });
  }

  provision(options: ProvisionOptions = {}): Promise<ProvisionResult> {
    return provision(this.config(), options);
  }
  giveBack(): Promise<Deprovisioned> {
    return deprovision(this.config(), { confirmed: true, keepStorageRoot: false });
  }
  /** `provision --recover` with the development recovery key. */
  reseal(): Promise<string[]> {
    const key = join(this.layout.development, 'recovery.pem');
    return recover(this.config(), async (challenge) =>
      parseSignature(answerChallenge(JSON.stringify(challenge), key).signature),
    );
  }
  /** Another development policy signer takes the place of the one that keys are sealed to. */
  replaceSigner(): void {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    writeFileSync(
      join(this.layout.development, 'signer.pem'),
      privateKey.export({ type: 'pkcs8', format: 'pem' }),
    );
  }

  /** The TPM commands (TPM_CC) that something consists of. */
  async commandsOf(work: () => Promise<unknown>): Promise<number[]> {
    this.proxy.reset();
    await work();
    return this.proxy.codes;
  }

  /** Something, with the power cut at one of its TPM commands; then the machine starts again. Whether it came to its end even so. */
  async cut(number: number, when: When, work: () => Promise<unknown>): Promise<boolean> {
    this.proxy.killAt(number, when);
    const outcome = await work().catch((error: unknown) => error);
    // Where the last answers are lost, the command may have come to its end without them.
    if (outcome instanceof Error) {
      expect(outcome, `${when} command ${number}`).toBeInstanceOf(Failure);
      expect((outcome as Failure).code).toMatch(/^tpm-(connection-lost|unreachable)$/);
    }
    await this.boot();
    return !(outcome instanceof Error);
  }

  async holdings(): Promise<Holdings> {
    await using tpm = await this.open();
    const objects: Record<string, string> = {};
    for (const handle of await tpm.persistentHandles()) {
      objects[handleText(handle)] = hex((await tpm.readPublic(handle)).name);
    }
    const indices: Record<string, string> = {};
    for (const index of await tpm.nvIndices()) {
      indices[handleText(index)] = hex((await tpm.nvPublic(index)).area);
    }
    return { objects, indices, lockout: (await tpm.properties()).lockout };
  }

  /** Keeps the TPM and the node as they are, under a word. */
  async save(word: string): Promise<void> {
    await this.swtpm.stop();
    const kept = join(this.directory, 'kept', word);
    mkdirSync(kept, { recursive: true });
    mkdirSync(this.layout.directory, { recursive: true });
    cpSync(join(this.swtpm.directory, stateFile), join(kept, stateFile));
    cpSync(this.layout.directory, join(kept, 'state'), { recursive: true });
    await this.boot();
  }

  /** Puts both back, and starts the machine. */
  async load(word: string): Promise<void> {
    await this.swtpm.stop();
    const kept = join(this.directory, 'kept', word);
    cpSync(join(kept, stateFile), join(this.swtpm.directory, stateFile));
    rmSync(this.layout.directory, { recursive: true, force: true });
    cpSync(join(kept, 'state'), this.layout.directory, { recursive: true });
    await this.boot();
  }

  /** SHA-256 of every key of the node, opened as `run` opens them, by name. */
  async openKeys(): Promise<Record<string, string>> {
    const record = readNodeRecord(this.layout);
    if (record.tpm === null) throw new Error('This node has no TPM.');
    await using keys = await NodeKeys.open(this.config(), record.tpm);
    const approval = await keys.approval(this.layout, record);
    const opened: Record<string, string> = {};
    for (const { name } of record.keys) {
      using key = await keys.unseal(this.arena, this.layout.directory, name, approval);
      opened[name] = createHash('sha256').update(key.bytes).digest('hex');
      const sealed = readSealedKey(this.layout.directory, name);
      if (sealed !== undefined) await this.#search.learnOpened(keys, record.tpm.srk.handle, sealed, key);
    }
    return opened;
  }

  /** @throws Error where a secret of the node has crossed the bus in a form that a probe can read. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#learn();
    const seen = this.#search.sightings(this.proxy.recorded);
    this.#search[Symbol.dispose]();
    await this.proxy[Symbol.asyncDispose]();
    await this.swtpm.stop();
    this.arena[Symbol.dispose]();
    rmSync(this.directory, { recursive: true, force: true });
    if (seen.length > 0) throw new Error(`On the bus: ${seen.join(', ')}`);
  }

  #learn(): Promise<void> {
    return this.#search.learn(this.config({ tcti: this.swtpm.tcti }));
  }
}

/** The handles of what a node says it owns, and of what a TPM holds. */
export const owned = ({ owns }: ProvisionResult): string[] => owns.map(({ handle }) => handle).sort();
export const heldIn = ({ objects, indices }: Holdings): string[] =>
  [...Object.keys(objects), ...Object.keys(indices)].sort();
