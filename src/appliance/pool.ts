// The collector pool as the configuration wants it: for the daemon, and for `stream` where none runs.
import { loadCreditPolicy } from '../entropy/credit.ts';
import { EntropyPool } from '../entropy/pool.ts';
import type { SecretArena } from '../host/arena.ts';
import { monotonicMicros } from '../host/time.ts';
import type { Config } from './config.ts';
import { policyPath } from './policies.ts';

/** Resolves when the pool serves. `fallbackDirectory` is the disk source's where the configuration names none. */
export async function startPool(
  config: Config,
  arena: SecretArena,
  fallbackDirectory: string,
): Promise<EntropyPool> {
  const { sources, directory } = config.entropy;
  const pool = await EntropyPool.start({
    arena,
    ...(sources.includes('all') ? {} : { sources }),
    directory: directory === '' ? fallbackDirectory : directory,
    policy: loadCreditPolicy(policyPath('entropy.toml')),
    clock: monotonicMicros,
  });
  try {
    await pool.ready();
    return pool;
  } catch (error) {
    await pool[Symbol.asyncDispose]();
    throw error;
  }
}
