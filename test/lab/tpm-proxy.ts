// Between a program and swtpm, as a probe on the bus: records every byte of both directions, counts the commands, and at one of
// them kills swtpm as a power cut would, either before it sees the command or after it has executed it and before anybody
// hears of that. Unlike the pcap TCTI it serves also those who wait with a time limit, and the interlock.
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { Swtpm } from './swtpm.ts';

/** Words of the board that the proxy's thread and its owner share. */
export const slot = {
  count: 0,
  at: 1,
  when: 2,
  pid: 3,
  codes: 4,
  codesKept: 1024,
  before: 1,
  after: 2,
} as const;

export interface ProxyTask {
  readonly path: string;
  readonly target: string;
  /** Where commands and answers are recorded, one after another. */
  readonly record: string;
  readonly board: SharedArrayBuffer;
}

export class TpmProxy implements AsyncDisposable {
  /** For `openTpm` and for tpm2-tools. */
  readonly tcti: string;
  readonly #swtpm: Swtpm;
  readonly #path: string;
  readonly #board: Int32Array;
  readonly #thread: Worker;

  private constructor(swtpm: Swtpm, path: string, board: Int32Array, thread: Worker) {
    this.tcti = `swtpm:path=${path}`;
    this.#swtpm = swtpm;
    this.#path = path;
    this.#board = board;
    this.#thread = thread;
  }

  static async start(swtpm: Swtpm): Promise<TpmProxy> {
    const target = swtpm.tcti.replace('swtpm:path=', '');
    // Beside the TPM's state, which tests put back to what it was.
    const path = `${swtpm.directory}.proxy`;
    const board = new SharedArrayBuffer(4 * (slot.codes + slot.codesKept));
    const task: ProxyTask = { path, target, record: recordBeside(path), board };
    const thread = new Worker(new URL('./tpm-proxy-thread.ts', import.meta.url), { workerData: task });
    await once(thread, 'message');
    return new TpmProxy(swtpm, path, new Int32Array(board), thread);
  }

  /** From here on no command is counted yet, and none kills. */
  reset(): void {
    Atomics.store(this.#board, slot.at, 0);
    Atomics.store(this.#board, slot.count, 0);
  }

  /** Kills swtpm at the command of this number, the first being 1. */
  killAt(number: number, when: 'before' | 'after'): void {
    this.reset();
    Atomics.store(this.#board, slot.pid, this.#swtpm.pid);
    Atomics.store(this.#board, slot.when, slot[when]);
    Atomics.store(this.#board, slot.at, number);
  }

  /** How many commands came since `reset`. */
  get count(): number {
    return Atomics.load(this.#board, slot.count);
  }

  /** Command codes (TPM_CC) since `reset`. */
  get codes(): number[] {
    return Array.from(
      { length: this.count },
      (_, index) => this.#board[slot.codes + ((index + 1) % slot.codesKept)] ?? 0,
    );
  }

  /** All that has crossed the bus. */
  get recorded(): Buffer {
    return readFileSync(recordBeside(this.#path));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread.terminate();
    for (const path of [this.#path, `${this.#path}.ctrl`, recordBeside(this.#path)]) {
      rmSync(path, { force: true });
    }
  }
}

const recordBeside = (path: string): string => `${path}.recorded`;
