// What a zeroize did, read from the board.
import type { Interface } from '../host/netlink.ts';
import { type Board, moment, word } from './board.ts';
import { type Cause, causeNamed, levels, type ZeroizeLevel } from './causes.ts';
import { stageSkipped } from './stages.ts';

/** What a zeroize did, as the node asserts it. Times in microseconds of CLOCK_MONOTONIC. */
export interface ZeroizeOutcome {
  readonly cause: Cause;
  readonly interface: string | null;
  readonly level: ZeroizeLevel;
  /** Causes that came while it was under way. */
  readonly also: readonly { readonly cause: Cause; readonly interface: string | null }[];
  readonly detectedAtMicros: number;
  readonly stages: {
    readonly memory: { readonly micros: number };
    readonly kernel: { readonly micros: number; readonly failures: number };
    readonly tpm: { readonly micros: number; readonly result: StageResult };
    readonly disk: { readonly micros: number; readonly result: StageResult };
  };
}
type StageResult = 'done' | 'not part of this level' | `failed (${string})`;

export function outcomeOf(board: Board, watched: readonly Interface[]): ZeroizeOutcome {
  const { words, moments } = board;
  const at = (name: keyof typeof moment): number => moments[moment[name]] ?? 0;
  const took = (from: number, to: number): number => Math.round(to - from);
  const named = (index: number): string | null => watched.find((link) => link.index === index)?.name ?? null;
  const cause = (number: number): Cause => causeNamed(number) ?? 'state-unparsable';
  return {
    cause: cause(Atomics.load(words, word.cause)),
    interface: named(Atomics.load(words, word.causeInterface)),
    also: board.also().map((late) => ({ cause: cause(late.cause), interface: named(late.interfaceIndex) })),
    level: levels[Atomics.load(words, word.level) - 1] ?? 'lock',
    detectedAtMicros: Math.round(at('detected')),
    stages: {
      memory: { micros: took(at('detected'), at('memory')) },
      kernel: {
        micros: took(at('memory'), at('kernel')),
        failures: Atomics.load(words, word.kernelFailures),
      },
      tpm: { micros: took(at('kernel'), at('tpm')), result: resultOf(Atomics.load(words, word.tpmResult)) },
      disk: { micros: took(at('tpm'), at('disk')), result: resultOf(Atomics.load(words, word.diskResult)) },
    },
  };
}

function resultOf(code: number): StageResult {
  if (code === 0) return 'done';
  return code === stageSkipped ? 'not part of this level' : `failed (0x${code.toString(16)})`;
}
