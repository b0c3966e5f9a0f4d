// Assessing a source on this machine: consecutive samples, then restarts, then all estimators. The samples that an assessment looked at
// never go into a seed.
import { startUpSamples } from '../health.ts';
import type { NoiseSource } from '../source.ts';
import { assess } from './assess.ts';
import { type AssessmentRecord, kernelNow, machineNow } from './record.ts';
import { consecutiveSamples, restartedSamples, restartTest } from './restart.ts';

export interface Extent {
  readonly samples: number;
  readonly restarts: number;
  /** Samples after each restart. */
  readonly each: number;
  /** For taking the samples, of either kind. */
  readonly patienceMilliseconds: number;
}

/** What SP 800-90B asks for. */
export const fullExtent: Extent = {
  samples: 1_000_000,
  restarts: 1000,
  each: 1000,
  patienceMilliseconds: 600_000,
};

export interface Examination {
  readonly record: AssessmentRecord;
  readonly samples: Uint8Array;
}

/**
 * Takes from seconds to minutes. `claim`: what the policy would credit; the restart test is against it (H_submitter of section 3.1.3).
 * @throws Failure `source-silent`, or what the source throws.
 */
export function examine(
  source: NoiseSource,
  claim: number,
  extent: Extent,
  onProgress: (what: string) => void = () => {},
): Examination {
  const { restarts, each, patienceMilliseconds } = extent;
  const samples = consecutiveSamples(source, extent.samples, patienceMilliseconds, (done) =>
    onProgress(`${source.name}: ${done} samples`),
  );
  const matrix = restartedSamples(source, restarts, each, patienceMilliseconds, startUpSamples, (done) =>
    onProgress(`${source.name}: ${done / each} restarts`),
  );
  onProgress(`${source.name}: estimating`);
  const { minEntropy, estimates } = assess(samples);
  const least = bounded(minEntropy);
  onProgress(`${source.name}: restart test`);
  const restart = restartTest(matrix, restarts, initialEstimate(least, claim));
  return {
    samples,
    record: {
      ...recordOf(source.name, kindOf(extent), samples.length, least, estimates),
      restart: { ...restart, rows: bounded(restart.rows), columns: bounded(restart.columns) },
    },
  };
}

/** With less than the standard asks for it is an assessment all the same, with wider bounds, and is not called what it is not. */
const kindOf = ({ samples, restarts, each }: Extent): AssessmentRecord['kind'] =>
  samples >= fullExtent.samples && restarts >= fullExtent.restarts && each >= fullExtent.each
    ? 'full'
    : 'brief';

const briefSamples = 4096;
const briefBits = 8192;
/** After each opening. */
const briefSkip = 64;
/** A source that takes longer to open is opened less often. */
const cheapMilliseconds = 1;

/**
 * What can be told in a fraction of a second: the same estimators, whose bounds are wider for so few samples, over a matrix of restarts.
 * `goOn` is called now and then, and ends it by throwing.
 * @throws what the source throws.
 */
export function examineBriefly(
  source: NoiseSource,
  claim: number,
  goOn: () => void = () => {},
): AssessmentRecord {
  const began = performance.now();
  source.open()[Symbol.dispose]();
  const restarts = performance.now() - began > cheapMilliseconds ? 16 : 32;
  const matrix = restartedSamples(source, restarts, briefSamples / restarts, 10_000, briefSkip, goOn);
  const { minEntropy, estimates } = assess(matrix, 8, briefBits, goOn);
  const least = bounded(minEntropy);
  const restart = restartTest(matrix, restarts, initialEstimate(least, claim), briefBits, least, goOn);
  return {
    ...recordOf(source.name, 'brief', matrix.length, least, estimates),
    restart: { ...restart, rows: bounded(restart.rows), columns: bounded(restart.columns) },
  };
}

/** Without a claim there is nothing to test but the estimate itself. */
const initialEstimate = (assessed: number, claim: number): number =>
  claim > 0 ? Math.min(assessed, claim) : assessed;

const bounded = (bits: number): number => Math.min(8, Math.max(0, bits));

function recordOf(
  source: string,
  kind: AssessmentRecord['kind'],
  samples: number,
  minEntropy: number,
  estimates: Readonly<Record<string, number>>,
): Omit<AssessmentRecord, 'restart'> {
  return {
    format: 1,
    source,
    made: new Date().toISOString(),
    machine: machineNow(),
    kernel: kernelNow(),
    kind,
    samples,
    minEntropy,
    estimates: { ...estimates },
  };
}
