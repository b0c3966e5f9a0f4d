// A small disk of one's own: a tmpfs, so that filling it hurts nobody else, in a mount namespace of one's own, so that none is left
// where a test is killed. Needs root.
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { requireChild, runChild } from '../../src/host/child.ts';
import { enterOwnMounts } from './namespace.ts';

const block = 4096;

export class SmallDisk implements AsyncDisposable {
  readonly path: string;
  #filler: number | undefined;

  private constructor(path: string) {
    this.path = path;
  }

  /** Mounts one at `path`, which is made where it is missing. */
  static async create(path: string, byteLength: number): Promise<SmallDisk> {
    mkdirSync(path, { recursive: true });
    await enterOwnMounts();
    await requireChild('mount', ['-t', 'tmpfs', '-o', `size=${byteLength},mode=0711`, 'ea-small-disk', path]);
    return new SmallDisk(path);
  }

  get #file(): string {
    return join(this.path, '.filler');
  }

  /** Takes all room but `left` bytes. */
  fill(left = 0): void {
    this.#filler ??= openSync(this.#file, 'a', 0o600);
    const { bavail, bsize } = statfsSync(this.path);
    const all = new Uint8Array(Math.max(0, bavail * bsize - left));
    try {
      for (let done = 0; done < all.length; ) done += writeSync(this.#filler, all, done);
      // What somebody else has given back meanwhile is taken as well.
      if (left === 0) for (;;) writeSync(this.#filler, new Uint8Array(block));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }

  /** Gives back what `fill` took. */
  relieve(): void {
    if (this.#filler !== undefined) closeSync(this.#filler);
    this.#filler = undefined;
    rmSync(this.#file, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.relieve();
    await runChild('umount', ['--lazy', this.path]);
  }
}
