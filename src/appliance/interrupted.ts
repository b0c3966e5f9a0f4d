// A zeroize that was killed between two of its stages is finished before anything else is done: its mark says how far it came.
import type { CustodyLog } from '../custody/log.ts';
import { SecretArena } from '../host/arena.ts';
import { linkDeletion, listInterfaces } from '../host/netlink.ts';
import { Board, stage, word } from '../interlock/board.ts';
import { causeNumber, levels } from '../interlock/causes.ts';
import { isOfThisLife, readMarker, removeMarker } from '../interlock/marker.ts';
import { outcomeOf } from '../interlock/outcome.ts';
import type { InterlockPolicy } from '../interlock/policy.ts';
import { Stages } from '../interlock/stages.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import type { Announcer } from './announce.ts';
import type { Config } from './config.ts';
import type { NodeRecord, StateLayout } from './node-record.ts';
import { stagePlan } from './stage-plan.ts';

/** Whether a zeroize of this life of the node is unfinished: the state counts as zeroized, whatever the lifecycle file says. */
export function zeroizeUnfinished(layout: StateLayout): boolean {
  const lifecycle = new Lifecycle(layout.directory);
  const mark = readMarker(lifecycle.path);
  return mark !== undefined && (lifecycle.read().state === 'zeroized' || isOfThisLife(mark, lifecycle.path));
}

/**
 * Runs the stages that were left over. Links are looked for by their names, for the messages that were built beforehand died
 * with their process. A stage that fails again (the TPM is gone) stays marked for the next start.
 */
export function finishInterrupted(node: {
  readonly config: Config;
  readonly layout: StateLayout;
  readonly record: NodeRecord;
  readonly policy: InterlockPolicy;
  readonly custody: CustodyLog;
  readonly announcer: Announcer;
}): void {
  const { config, layout, record, custody, announcer } = node;
  const { path } = new Lifecycle(layout.directory);
  const mark = readMarker(path);
  if (mark === undefined) return;
  if (!zeroizeUnfinished(layout)) {
    removeMarker(path); // An operator has re-armed the node since.
    return;
  }
  const channel = record.tpm === null || mark.done.includes('tpm') ? null : { tcti: config.tpm.tcti };
  const plan = stagePlan({ ...node, channel });
  const board = new Board();
  Atomics.store(board.words, word.cause, causeNumber(mark.cause));
  Atomics.store(board.words, word.requestedLevel, levels.indexOf(mark.level) + 1);
  Atomics.store(board.words, word.stage, stage.memory);
  const names = new Set(config.links.map(({ name }) => name));
  for (const link of listInterfaces().filter(({ name }) => names.has(name)))
    board.addAction({ message: linkDeletion(link.index) });
  using arena = SecretArena.allocate({ byteLength: 4096, allowSwappable: true });
  using stages = new Stages(arena, board, plan);
  stages.resume();
  const { stages: finished } = outcomeOf(board, []);
  const { cause, level, done } = mark;
  custody.append('zeroize-finished', { cause, level, done, stages: finished });
  announcer.event(
    'ZEROIZE_FINISHED',
    `A zeroize (${cause}, ${level}) had been interrupted; its stages are finished now.`,
    { cause, level },
  );
}
