import type { SecretArena } from '../host/arena.ts';
import { zeroizedFailure } from '../host/failure.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import type { Config } from './config.ts';
import { stateLayout } from './state-layout.ts';

const watchMilliseconds = 200;

/** The door of every random output. @throws Failure `zeroized` (status 4). */
export function requireUnzeroized(config: Config): void {
  if (isZeroized(config)) throw zeroizedFailure('Random output');
}

/** Until it is disposed of: wipes the arena of a process that has a pool of its own when the node of this configuration is zeroized. */
export function wipeWithNode(config: Config, arena: SecretArena): Disposable {
  const watch = setInterval(() => {
    if (isZeroized(config)) arena.wipe();
  }, watchMilliseconds);
  watch.unref();
  return { [Symbol.dispose]: () => clearInterval(watch) };
}

/** `requireUnzeroized` for a door that is passed again and again: looks at the disk five times a second at most. */
export function unzeroizedDoor(config: Config): () => void {
  let watched = Number.NEGATIVE_INFINITY;
  return () => {
    if (performance.now() - watched < watchMilliseconds) return;
    requireUnzeroized(config);
    watched = performance.now();
  };
}

function isZeroized(config: Config): boolean {
  const { directory } = stateLayout(config.node.state_dir);
  return new Lifecycle(directory).read().state === 'zeroized';
}
