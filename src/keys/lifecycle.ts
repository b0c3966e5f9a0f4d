// The lifecycle of a node (docs/architecture.md): unprovisioned -> sealed -> running -> zeroized, and back to sealed only by an
// operator. Two files carry it: `state.json` (sealed or zeroized) and `running.json`, a marker written before the first
// unseal, whose presence at a start means that the last end was unclean.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readIfPresent, syncDirectory, writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';

export type LifecycleState = 'unprovisioned' | 'sealed' | 'zeroized';

export interface LifecycleRecord {
  readonly state: LifecycleState;
  /** RFC 3339. */
  readonly since?: string;
  readonly cause?: string;
  readonly level?: string;
  /** The TPM stage is left over: the node is not armed anew before it is done. */
  readonly tpm?: 'failed';
}

export class Lifecycle {
  readonly path: string;
  readonly #directory: string;
  readonly #marker: string;

  constructor(stateDirectory: string) {
    this.#directory = stateDirectory;
    this.path = join(stateDirectory, 'state.json');
    this.#marker = join(stateDirectory, 'running.json');
  }

  /** Fails closed: a state file that cannot be parsed counts as zeroized. */
  read(): LifecycleRecord {
    const text = readIfPresent(this.path);
    if (text === undefined) return { state: 'unprovisioned' };
    try {
      const record = JSON.parse(text) as LifecycleRecord;
      if (record.state === 'sealed' || record.state === 'zeroized') return record;
    } catch {}
    return { state: 'zeroized', cause: 'state-unparsable' };
  }

  markSealed(): void {
    writeDurably(this.path, `${JSON.stringify({ state: 'sealed', since: new Date().toISOString() })}\n`);
  }

  /** True when the last run ended without clearing its marker: a crash, a kill or a power cut. */
  get endedUncleanly(): boolean {
    return readIfPresent(this.#marker) !== undefined;
  }

  markRunning(): void {
    writeDurably(this.#marker, `${JSON.stringify({ pid: process.pid, since: new Date().toISOString() })}\n`);
  }

  clearRunning(): void {
    rmSync(this.#marker, { force: true });
    syncDirectory(this.#directory);
  }
}

/** @throws Failure `unprovisioned` where the state directory holds no node. */
export function unprovisioned(stateDirectory: string): Failure {
  return new Failure('unprovisioned', `No node has been provisioned in ${stateDirectory}.`, {
    remedy: 'Run `esoteric-appliance provision` first (with the same --state-dir).',
  });
}
