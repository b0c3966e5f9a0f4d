// A wall clock for one program that can be set without setting the machine's (set-clock.c). The kernel's own stamps stay: those of
// files, and of what journald receives.
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { requireChild } from '../../src/host/child.ts';

export class SettableClock {
  readonly #library: string;
  readonly #file: string;

  private constructor(library: string, file: string) {
    this.#library = library;
    this.#file = file;
  }

  /** Builds what it needs into `directory`. */
  static async create(directory: string): Promise<SettableClock> {
    const library = join(directory, 'set-clock.so');
    const source = join(import.meta.dirname, 'set-clock.c');
    await requireChild('gcc', ['-shared', '-fPIC', '-O2', '-o', library, source]);
    const clock = new SettableClock(library, join(directory, 'set-clock'));
    clock.set(0);
    return clock;
  }

  /** For the program whose clock it is. */
  get environment(): Record<string, string> {
    return { LD_PRELOAD: this.#library, SET_CLOCK: this.#file };
  }

  /** Sets it so many seconds ahead of the machine's. Written over in place, for programs have it mapped. */
  set(secondsAhead: number): void {
    const fd = openSync(this.#file, constants.O_WRONLY | constants.O_CREAT, 0o644);
    writeSync(fd, new BigInt64Array([BigInt(secondsAhead)]), 0, 8, 0);
    closeSync(fd);
  }
}
