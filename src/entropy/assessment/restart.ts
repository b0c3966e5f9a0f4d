// The restart test of NIST SP 800-90B, section 3.1.4: a source that is started over and over must not begin alike. A matrix of samples,
// one row a restart, is checked for a value that is too common in a row or a column (3.1.4.3), and assessed row by row and column by
// column (3.1.4.2). Here a restart is a fresh `open` of the source; a restart of the machine would say more. The first samples after it
// belong to the start-up test, which uses them up, and are left out.
import { Failure } from '../../host/failure.ts';
import { criticalBinomial } from '../binomial.ts';
import { startUpSamples } from '../health.ts';
import type { NoiseSource } from '../source.ts';
import { assess } from './assess.ts';

export interface RestartResult {
  readonly restarts: number;
  /** Samples after each restart. */
  readonly samples: number;
  readonly passed: boolean;
  /** The least of the initial estimate, the rows and the columns, in bits per sample; 0 where the test failed. */
  readonly minEntropy: number;
  readonly rows: number;
  readonly columns: number;
  /** What it failed by, as a phrase. */
  readonly why?: string;
}

/** One chance in a hundred that a good source fails, over the rows and columns of a full test (2000 of them). */
const alphaOfAll = 0.01;

/**
 * `matrix`: row by row; `initial`: H_I of section 3.1.3, the least of what was estimated and what is claimed, bits per sample.
 * `bitLimit` and `goOn` as in `assess`; `assessed`: what that found for the matrix row by row, where it is known.
 */
export function restartTest(
  matrix: Uint8Array,
  restarts: number,
  initial: number,
  bitLimit = Number.POSITIVE_INFINITY,
  assessed?: number,
  goOn?: () => void,
): RestartResult {
  const samples = matrix.length / restarts;
  const shape = { restarts, samples };
  const byColumn = transposed(matrix, restarts);
  const commonest = Math.max(
    mostCommon(matrix, samples) / samples,
    mostCommon(byColumn, restarts) / restarts,
  );
  const trials = Math.min(samples, restarts);
  const alpha = alphaOfAll / (samples + restarts);
  const cutoff = initial <= 0 ? trials : 1 + criticalBinomial(trials, 2 ** -initial, alpha);
  if (Math.round(commonest * trials) > Math.min(trials, cutoff)) {
    const why = `one value makes up ${(100 * commonest).toFixed(1)} % of a row or column`;
    return { ...shape, passed: false, minEntropy: 0, rows: 0, columns: 0, why };
  }
  const rows = assessed ?? assess(matrix, 8, bitLimit, goOn).minEntropy;
  const columns = assess(byColumn, 8, bitLimit, goOn).minEntropy;
  const least = Math.max(0, Math.min(rows, columns));
  if (least < initial / 2) {
    const why = `rows and columns have ${least.toFixed(2)} bits a sample, less than half of ${initial.toFixed(2)}`;
    return { ...shape, passed: false, minEntropy: 0, rows, columns, why };
  }
  return { ...shape, passed: true, minEntropy: Math.min(least, Math.max(0, initial)), rows, columns };
}

/** How often the most common value of any one row of so many samples occurs in it. */
function mostCommon(matrix: Uint8Array, width: number): number {
  const counts = new Uint32Array(256);
  let most = 0;
  for (let from = 0; from < matrix.length; from += width) {
    counts.fill(0);
    for (let i = from; i < from + width; i++) {
      const symbol = matrix[i] as number;
      const count = (counts[symbol] as number) + 1;
      counts[symbol] = count;
      if (count > most) most = count;
    }
  }
  return most;
}

function transposed(matrix: Uint8Array, rows: number): Uint8Array {
  const width = matrix.length / rows;
  const out = new Uint8Array(matrix.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < width; column++)
      out[column * rows + row] = matrix[row * width + column] as number;
  }
  return out;
}

/** Consecutive samples of a source that is opened once. @throws Failure `source-silent` after `patienceMilliseconds`. */
export function consecutiveSamples(
  source: NoiseSource,
  count: number,
  patienceMilliseconds: number,
  onProgress: (done: number) => void = () => {},
): Uint8Array {
  using sampler = source.open();
  const samples = new Uint8Array(count);
  fill(
    source.name,
    (into) => sampler.sample(into),
    samples,
    performance.now() + patienceMilliseconds,
    onProgress,
  );
  return samples;
}

/** A matrix of `each` samples after each of so many openings and `skipped` samples. @throws Failure `source-silent`. */
export function restartedSamples(
  source: NoiseSource,
  restarts: number,
  each: number,
  patienceMilliseconds: number,
  skipped: number = startUpSamples,
  onProgress: (done: number) => void = () => {},
): Uint8Array {
  const matrix = new Uint8Array(restarts * each);
  const deadline = performance.now() + patienceMilliseconds;
  const used = new Uint8Array(skipped);
  for (let restart = 0; restart < restarts; restart++) {
    using sampler = source.open();
    fill(
      source.name,
      (into) => sampler.sample(into),
      used,
      deadline,
      () => {},
    );
    const row = matrix.subarray(restart * each, (restart + 1) * each);
    fill(
      source.name,
      (into) => sampler.sample(into),
      row,
      deadline,
      () => {},
    );
    onProgress((restart + 1) * each);
  }
  return matrix;
}

const samplesAtOnce = 1024;

function fill(
  name: string,
  sample: (into: Uint8Array) => number,
  into: Uint8Array,
  deadline: number,
  onProgress: (done: number) => void,
): void {
  for (let done = 0; done < into.length; ) {
    const part = into.subarray(done, done + samplesAtOnce);
    done += Math.min(part.length, sample(part));
    onProgress(done);
    if (done < into.length && performance.now() > deadline) {
      throw new Failure('source-silent', `${name} has delivered ${done} of ${into.length} samples in time.`, {
        remedy: 'Ask for fewer samples, or give it more time.',
      });
    }
  }
}
