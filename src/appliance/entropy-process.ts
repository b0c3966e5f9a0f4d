// A pool of this process alone, for commands that give out random bytes where no node does it for them. A node that is zeroized
// meanwhile takes it along: the state directory is watched.
import { tmpdir } from 'node:os';
import type { EntropyPool } from '../entropy/pool.ts';
import { SecretArena } from '../host/arena.ts';
import { hardenProcess } from '../host/hardening.ts';
import { shareNativeHeaps } from '../host/heap.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import type { Config } from './config.ts';
import { stateLayout } from './node-record.ts';
import { startPool } from './pool.ts';
import { requireUnzeroized } from './unzeroized.ts';

const watchMilliseconds = 200;

export interface OwnPool {
  readonly pool: EntropyPool;
  readonly arena: SecretArena;
}

/** @throws Failure `zeroized` (status 4) on a zeroized node, else what `body` throws. */
export async function withOwnPool<T>(
  config: Config,
  sources: readonly string[] | undefined,
  body: (own: OwnPool) => Promise<T>,
): Promise<T> {
  requireUnzeroized(config);
  hardenProcess();
  shareNativeHeaps();
  using arena = SecretArena.allocate();
  await using pool = await startPool(config, arena, { fallbackDirectory: tmpdir(), sources });
  const lifecycle = new Lifecycle(stateLayout(config.node.state_dir).directory);
  const watch = setInterval(() => {
    if (lifecycle.read().state === 'zeroized') arena.wipe();
  }, watchMilliseconds);
  watch.unref();
  try {
    return await body({ pool, arena });
  } finally {
    clearInterval(watch);
  }
}
