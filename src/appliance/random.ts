// The JavaScript API, exported as `esoteric-appliance/random`: a pool of this process behind an object that gives random values.
//
//     import { openRandom } from 'esoteric-appliance/random';
//     await using random = await openRandom();
//     random.integer(1, 7);
import { tmpdir } from 'node:os';
import { Random } from '../entropy/random.ts';
import type { EntropyStatus } from '../entropy/status.ts';
import { SecretArena } from '../host/arena.ts';
import { Failure, zeroizedFailure } from '../host/failure.ts';
import { loadConfig } from './config.ts';
import { startPool } from './pool.ts';
import { requireUnzeroized, wipeWithNode } from './unzeroized.ts';

export { Failure, Random };

export interface RandomOptions {
  /** Noise sources or families by name; those of the configuration unless told. */
  readonly sources?: readonly string[];
  /** Configuration file; the default one, where there is one, unless told. */
  readonly config?: string;
  /** Where assessments of this machine are kept. */
  readonly stateDirectory?: string;
  /** Go on where memory cannot be locked. */
  readonly allowSwappable?: boolean;
}

/** Dispose of it to end its threads and wipe its memory. */
export interface OpenRandom extends Random, AsyncDisposable {
  status(): EntropyStatus;
}

/**
 * Resolves when the first seed is made. Every method then throws Failure `entropy-unhealthy` when the noise has failed for too long, and
 * `zeroized` once the node of this configuration is, a fifth of a second later at most where the event loop turns.
 * @throws Failure `config-invalid`, `source-unknown`, `entropy-uncredited`, `entropy-not-ready`, `memory-unlockable`, `zeroized`.
 */
export async function openRandom(options: RandomOptions = {}): Promise<OpenRandom> {
  const config = loadConfig({ path: options.config, overrides: { stateDir: options.stateDirectory } });
  requireUnzeroized(config);
  const arena = SecretArena.allocate(options.allowSwappable === true ? { allowSwappable: true } : {});
  const watch = wipeWithNode(config, arena);
  try {
    const pool = await startPool(config, arena, { fallbackDirectory: tmpdir(), sources: options.sources });
    let closed = false;
    const random = new Random(
      (out) => pool.read(out),
      () => {
        if (closed)
          throw new Failure('entropy-stopped', 'This source of random values has been disposed of.');
        if (arena.zeroized) throw zeroizedFailure('Random output');
      },
    );
    return Object.assign(random, {
      status: () => pool.status(),
      async [Symbol.asyncDispose]() {
        closed = true;
        watch[Symbol.dispose]();
        await pool[Symbol.asyncDispose]();
        arena[Symbol.dispose]();
      },
    });
  } catch (error) {
    watch[Symbol.dispose]();
    arena[Symbol.dispose]();
    throw error;
  }
}
