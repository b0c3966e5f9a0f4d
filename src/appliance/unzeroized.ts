import { zeroizedFailure } from '../host/failure.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import type { Config } from './config.ts';
import { stateLayout } from './node-record.ts';

/** The door of every random output. @throws Failure `zeroized` (status 4). */
export function requireUnzeroized(config: Config): void {
  const { directory } = stateLayout(config.node.state_dir);
  if (new Lifecycle(directory).read().state === 'zeroized') throw zeroizedFailure('Random output');
}
