// `pool`: the pool of the running node, with its grade; and a test of one source on demand.
import { type Grade, gradeOf } from '../entropy/grade.ts';
import type { EntropyStatus } from '../entropy/status.ts';
import type { Config } from './config.ts';
import { askNode } from './control.ts';
import { stateLayout } from './state-layout.ts';

/** The JSON contract of `pool --json` (docs/cli.md). */
export interface PoolReport extends EntropyStatus {
  readonly grade: Grade;
}

/** `restart`: a source to be tested anew from the beginning. @throws Failure `node-not-running`, `source-unknown`. */
export async function poolOf(config: Config, restart: string | undefined): Promise<PoolReport> {
  const { control } = stateLayout(config.node.state_dir);
  const status = await askNode<EntropyStatus>(control, 'pool', restart === undefined ? {} : { restart });
  return { ...status, grade: gradeOf(status) };
}
