// What a benchmark is, and how a figure is judged: by its ratio to a reference that was measured in the same run, turn and turn
// about (docs/architecture.md, "How fast"). Absolute figures are for reading only.
import type { BenchResult } from '../../src/appliance/checkout.ts';

export interface Benchmark {
  readonly name: string;
  /** In words, such as "<= 2x". */
  readonly target: string;
  readonly needs: Needs;
  run(progress: Progress): Promise<BenchResult | BenchResult[]>;
}

/** What this machine must have for the benchmark to run. */
export interface Needs {
  readonly root?: true;
  readonly programs?: readonly string[];
  /** Files or devices. */
  readonly files?: readonly string[];
}

export interface Progress {
  /** Aborted when the user interrupts; looked at between rounds. */
  readonly signal: AbortSignal;
  /** How far it is: a few words after the benchmark's name. */
  say(text: string): void;
}

/** A bound on value / reference. */
export type Target = { readonly atMost: number } | { readonly atLeast: number };

export const words = (target: Target): string =>
  'atMost' in target ? `<= ${target.atMost}x` : `>= ${target.atLeast}x`;

export function judge(figure: {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly reference: { readonly name: string; readonly value: number };
  readonly target: Target;
  /** Follows the target in its words. */
  readonly note?: string;
}): BenchResult {
  const { name, value, unit, reference, target, note } = figure;
  const ratio = value / reference.value;
  return {
    name,
    value,
    unit,
    reference,
    ratio,
    target: note === undefined ? words(target) : `${words(target)} ${note}`,
    met: 'atMost' in target ? ratio <= target.atMost : ratio >= target.atLeast,
  };
}

/** The nearest-rank quantile of one or more samples; `at` in (0, 1]. */
export function quantile(samples: readonly number[], at: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const found = sorted[Math.ceil(at * sorted.length) - 1];
  if (found === undefined) throw new RangeError('A quantile needs samples.');
  return found;
}

export const median = (samples: readonly number[]): number => quantile(samples, 0.5);

/** Milliseconds that `work` takes. */
export async function timed(work: () => unknown): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** How much is measured: so many blocks of each side in turn, so many runs in a block. */
export interface Load {
  readonly blocks: number;
  readonly runs: number;
}

/** Milliseconds of each of so many runs in one go. */
export type Side = (runs: number) => Promise<number[]>;

/**
 * Medians of two sides that are measured in turn, block by block; who begins changes with each block. A block of each before
 * them warms up and does not count.
 */
export async function inTurn(
  { blocks, runs }: Load,
  { signal, say }: Progress,
  ours: Side,
  reference: Side,
): Promise<{ readonly ours: number; readonly reference: number }> {
  const measured = [
    { side: ours, milliseconds: [] as number[] },
    { side: reference, milliseconds: [] as number[] },
  ] as const;
  for (const { side } of measured) await side(1);
  for (let block = 0; block < blocks; block++) {
    say(`${block} of ${blocks} blocks`);
    for (const { side, milliseconds } of block % 2 === 0 ? measured : measured.toReversed()) {
      milliseconds.push(...(await side(runs)));
      signal.throwIfAborted();
    }
  }
  return { ours: median(measured[0].milliseconds), reference: median(measured[1].milliseconds) };
}

/** A side that runs `work` in this process. */
export const repeated =
  (work: () => unknown): Side =>
  async (runs) => {
    const milliseconds: number[] = [];
    for (let run = 0; run < runs; run++) milliseconds.push(await timed(work));
    return milliseconds;
  };
