// A node's TPM and state directory on a bench where the power can be cut at any TPM command, and both be put back to what they
// were before. The commands are called in this process: what is tried is what they leave behind, over and over.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../../src/appliance/config.ts';
import { configSchema } from '../../src/appliance/config-schema.ts';
import { NodeKeys } from '../../src/appliance/node-keys.ts';
import { readNodeRecord, type StateLayout, stateLayout } from '../../src/appliance/node-record.ts';
import { SecretArena } from '../../src/host/arena.ts';
import { openTpm } from '../../src/tpm/context.ts';
import type { TpmProperties } from '../../src/tpm/properties.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';
import { TpmProxy } from '../lab/tpm-proxy.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const stateFile = 'tpm2-00.permall';

/** All that a TPM keeps and shows; handles in hexadecimal. */
export interface Holdings {
  /** Names by handle. */
  readonly objects: Readonly<Record<string, string>>;
  /** TPMS_NV_PUBLIC by index. */
  readonly indices: Readonly<Record<string, string>>;
  readonly lockout: TpmProperties['lockout'];
}

export class Bench implements AsyncDisposable {
  readonly directory: string;
  readonly swtpm: Swtpm;
  readonly proxy: TpmProxy;
  readonly arena: SecretArena = SecretArena.allocate({ allowSwappable: true });

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
    await using tpm = await openTpm({ tcti: this.swtpm.tcti });
    for (const pcr of [0, 7]) {
      await tpm.pcrExtend(pcr, { sha256: createHash('sha256').update(`firmware ${pcr}`).digest() });
    }
    this.proxy.reset();
  }

  async holdings(): Promise<Holdings> {
    await using tpm = await openTpm({ tcti: this.swtpm.tcti });
    const objects: Record<string, string> = {};
    for (const handle of await tpm.persistentHandles()) {
      objects[handle.toString(16)] = hex((await tpm.readPublic(handle)).name);
    }
    const indices: Record<string, string> = {};
    for (const index of await tpm.nvIndices()) {
      indices[index.toString(16)] = hex((await tpm.nvPublic(index)).area);
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
    }
    return opened;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    await this.swtpm.stop();
    this.arena[Symbol.dispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
