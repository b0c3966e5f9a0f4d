// A pool of this process alone, for commands that give out random bytes where no node does it for them. A node that is zeroized
// meanwhile takes it along: the state directory is watched.
import { tmpdir } from 'node:os';
import type { EntropyPool } from '../entropy/pool.ts';
import { SecretArena } from '../host/arena.ts';
import type { Config } from './config.ts';
import { beginEntropyProcess } from './entropy-ahead.ts';
import { orNoOutput } from './no-output.ts';
import { requireUnzeroized, wipeWithNode } from './unzeroized.ts';

export interface OwnPool {
  readonly pool: EntropyPool;
  readonly arena: SecretArena;
}

/** @throws Failure `zeroized` on a zeroized node, or why there is no seed (both status 4), else what `body` throws. */
export async function withOwnPool<T>(
  config: Config,
  sources: readonly string[] | undefined,
  body: (own: OwnPool) => Promise<T>,
): Promise<T> {
  return await orNoOutput(() => ownPool(config, sources, body));
}

async function ownPool<T>(
  config: Config,
  sources: readonly string[] | undefined,
  body: (own: OwnPool) => Promise<T>,
): Promise<T> {
  requireUnzeroized(config);
  await using _ahead = beginEntropyProcess();
  const { startPool } = await import('./pool.ts');
  using arena = SecretArena.allocate();
  // Before the pool: gathering the first seed may take its time, too.
  using _watch = wipeWithNode(config, arena);
  await using pool = await startPool(config, arena, { fallbackDirectory: tmpdir(), sources });
  return await body({ pool, arena });
}
