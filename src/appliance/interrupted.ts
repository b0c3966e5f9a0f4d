// A zeroize that was killed between two of its stages is finished before anything else is done: its mark says how far it came.
import { SecretArena } from '../host/arena.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { linkDeletion, listInterfaces } from '../host/netlink.ts';
import { Board, stage, word } from '../interlock/board.ts';
import { causeNumber, causes, levels } from '../interlock/causes.ts';
import {
  type Interrupted,
  isOfThisLife,
  lastingStages,
  readMarker,
  removeMarker,
} from '../interlock/marker.ts';
import { outcomeOf, type ZeroizeOutcome } from '../interlock/outcome.ts';
import type { InterlockPolicy } from '../interlock/policy.ts';
import { Stages } from '../interlock/stages.ts';
import { pinnedStorageRoot } from '../keys/anchors.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import { openTpm } from '../tpm/context.ts';
import type { Config } from './config.ts';
import type { NodeRecord } from './node-record.ts';
import { stagePlan } from './stage-plan.ts';
import type { StateLayout } from './state-layout.ts';

/** Whether a zeroize of this life of the node is unfinished: the state counts as zeroized, whatever the lifecycle file says. */
export const zeroizeUnfinished = (layout: StateLayout): boolean => leftOver(layout) !== undefined;

function leftOver(layout: StateLayout): Interrupted | undefined {
  const lifecycle = new Lifecycle(layout.directory);
  const { state, cause, level, tpm } = lifecycle.read();
  const mark = readMarker(lifecycle.path);
  if (mark !== undefined && (state === 'zeroized' || isOfThisLife(mark, lifecycle.path))) return mark;
  // The mark may be lost with the power; that the TPM stage failed is in the lifecycle file too.
  if (state !== 'zeroized' || tpm !== 'failed') return undefined;
  return {
    cause: causes.find((known) => known === cause) ?? 'state-unparsable',
    level: levels.find((known) => known === level) ?? 'lock',
    lifecycle: '',
    done: ['kernel', 'disk'],
  };
}

/** What the caller records as `zeroize-finished`: the stages have run, whether or not the log can be written. */
export interface Finished extends Omit<Interrupted, 'lifecycle'> {
  readonly stages: ZeroizeOutcome['stages'];
}

/**
 * Runs the stages that were left over and returns what was finished. Links are looked for by their names, for the messages that were
 * built beforehand died with their process. A stage that fails again (the TPM is gone) stays marked for the next start.
 * @throws Failure `tpm-swapped`: the commands are for this node's own TPM.
 */
export async function finishInterrupted(node: {
  readonly config: Config;
  readonly layout: StateLayout;
  readonly record: NodeRecord;
  readonly policy: InterlockPolicy;
}): Promise<Finished | undefined> {
  const { config, layout, record } = node;
  const { path } = new Lifecycle(layout.directory);
  const mark = leftOver(layout);
  if (mark === undefined) {
    removeMarker(path); // An operator has re-armed the node since.
    return undefined;
  }
  const toLock = mark.done.includes('tpm') ? null : record.tpm;
  if (toLock !== null) await requireOwnTpm(config, toLock);
  const channel = toLock === null ? null : { tcti: config.tpm.tcti };
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
  return { cause, level, done, stages: finished };
}

/** Stages that could not be done this time either, each with why. */
export function failedStages({ kernel, tpm, disk }: ZeroizeOutcome['stages']): string[] {
  return [
    ...(kernel.failures === 0 ? [] : [`links (${kernel.failures} could not be removed)`]),
    ...(tpm.result.startsWith('failed') ? [`TPM ${tpm.result}`] : []),
    ...(disk.result.startsWith('failed') ? [`disk ${disk.result}`] : []),
  ];
}

/** A TPM that does not answer is told by the stage itself. */
async function requireOwnTpm(config: Config, anchors: NonNullable<NodeRecord['tpm']>): Promise<void> {
  try {
    await using tpm = await openTpm({ tcti: config.tpm.tcti });
    await using _srk = await pinnedStorageRoot(tpm, anchors);
  } catch (error) {
    if (error instanceof Failure && error.code === 'tpm-swapped') throw error;
  }
}

/** On the way to another life: nothing of the last one may be left over. @throws Failure `zeroize-unfinished`, status 4. */
export function requireFinished(layout: StateLayout): void {
  const mark = leftOver(layout);
  if (mark === undefined) return;
  const left = lastingStages.find((one) => !mark.done.includes(one));
  const [what, remedy] =
    left === 'disk'
      ? [
          'The state directory could not be written as the zeroize asks for',
          'Make room on its disk, see that it can be written, then repeat the command, which does that first.',
        ]
      : [
          'The TPM could not be locked as the zeroize asks for: it refuses or does not answer',
          'See with `esoteric-appliance doctor` that the TPM answers, then repeat the command, which locks it first.',
        ];
  throw new Failure('zeroize-unfinished', `${what}.`, {
    kept: 'The node stays zeroized.',
    remedy,
    status: exitStatus.zeroized,
  });
}
