// What a benchmark is, and how a figure is judged: by its ratio to a reference that was measured in the same run, turn and turn
// about (docs/architecture.md, "How fast"). Absolute figures are for reading only, but where the issue sets a limit: then both count.
import type { BenchResult, Spread } from '../../src/appliance/checkout.ts';

export interface Benchmark {
  readonly name: string;
  /** Names of figures that it gives beside the one that it is named for. */
  readonly alsoGives?: readonly string[];
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
  /** The largest value, whatever the reference does. */
  readonly limit?: number;
  /** Follows the target in its words. */
  readonly note?: string;
}): BenchResult {
  const { name, value, unit, reference, target, limit, note } = figure;
  const ratio = value / reference.value;
  const ratioMet = 'atMost' in target ? ratio <= target.atMost : ratio >= target.atLeast;
  const limitMet = limit === undefined || value <= limit;
  const asked = limit === undefined ? words(target) : `${words(target)} and <= ${limit} ${unit}`;
  return {
    name,
    value,
    unit,
    reference,
    ratio,
    target: note === undefined ? asked : `${asked} ${note}`,
    met: ratioMet && limitMet,
    ...(limit === undefined ? {} : { limit: { value: limit, met: limitMet, ratioMet } }),
  };
}

/** The nearest-rank quantile of one or more samples; `at` in (0, 1]. */
export function quantile(samples: readonly number[], at: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const found = sorted[Math.ceil(at * sorted.length) - 1];
  if (found === undefined) throw new RangeError('A quantile needs samples.');
  return found;
}

/**
 * Where a quantile lies with a confidence of 95 %, whatever the distribution: between the samples whose ranks are 1.96 standard
 * deviations of a binomial count from its own (Conover, Practical Nonparametric Statistics, 3.2).
 */
export function quantileInterval(samples: readonly number[], at: number): [number, number] {
  const sorted = samples.toSorted((a, b) => a - b);
  const { length } = sorted;
  const reach = 1.96 * Math.sqrt(length * at * (1 - at));
  const ranked = (rank: number): number =>
    sorted[Math.min(length, Math.max(1, Math.ceil(rank))) - 1] ?? Number.NaN;
  return [ranked(length * at - reach), ranked(length * at + reach)];
}

export const spreadOf = (samples: readonly number[]): Spread => ({
  p50: quantile(samples, 0.5),
  p95: quantile(samples, 0.95),
  p99: quantile(samples, 0.99),
  max: Math.max(...samples),
  p95Interval: quantileInterval(samples, 0.95),
  samples: samples.length,
});

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
