// `probe`: samples of one source, assessed by SP 800-90B and kept for this machine, or recorded for NIST's own tools.
import { closeSync, openSync, writeSync } from 'node:fs';
import { type Extent, examine, fullExtent } from '../entropy/assessment/examine.ts';
import { type AssessmentRecord, creditInUse } from '../entropy/assessment/record.ts';
import { writeAssessment } from '../entropy/assessment/record-file.ts';
import { consecutiveSamples, restartedSamples } from '../entropy/assessment/restart.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import type { Config } from './config.ts';
import { policyOf, sourceNamed } from './entropy-sources.ts';

export interface ProbeRequest {
  readonly source: string;
  readonly samples?: number | undefined;
  readonly restarts?: number | undefined;
  readonly each?: number | undefined;
  readonly seconds?: number | undefined;
  /** Where disk timing keeps its file, unless configured. */
  readonly fallbackDirectory: string;
}

/** The JSON contract of `probe --json` (docs/cli.md). */
export interface ProbeResult {
  readonly source: string;
  readonly physical: string;
  readonly assessment: AssessmentRecord;
  /** How often each value of a sample occurred. */
  readonly histogram: readonly number[];
  readonly policyCredit: number;
  /** Bits a sample that count from the next start on. */
  readonly credit: number;
  /** Where it is kept; null with why not. */
  readonly kept: string | null;
  readonly keptNot?: string;
}

/** Minutes, for what SP 800-90B asks for. @throws Failure `source-unknown`, `source-unavailable`, `source-silent`. */
export function probe(
  config: Config,
  request: ProbeRequest,
  onProgress: (what: string) => void,
): ProbeResult {
  const source = usable(config, request);
  const policy = policyOf(source.name);
  const { record, samples } = examine(source, policy.credit, extentOf(request), onProgress);
  const result = {
    source: source.name,
    physical: source.physical,
    assessment: record,
    histogram: histogramOf(samples),
    policyCredit: policy.credit,
    credit: creditInUse(policy, record),
  };
  try {
    return { ...result, kept: writeAssessment(config.node.state_dir, record) };
  } catch (error) {
    return { ...result, kept: null, keptNot: reasonOf(error) };
  }
}

export interface Recording {
  readonly source: string;
  /** One sample a byte, as ea_non_iid reads it: `ea_non_iid FILE 8`. */
  readonly file: string;
  readonly samples: number;
  /** One row a restart, as ea_restart reads it: `ea_restart FILE 8 H`. */
  readonly restartFile: string;
  readonly restarts: number;
  readonly each: number;
}

/** Raw samples in the format of NIST's tools; nothing is assessed. @throws as `probe`; Failure `record-failed`. */
export function recordSamples(
  config: Config,
  request: ProbeRequest,
  file: string,
  onProgress: (what: string) => void,
): Recording {
  const source = usable(config, request);
  const { samples: count, restarts, each, patienceMilliseconds } = extentOf(request);
  const told = (done: number): void => onProgress(`${source.name}: ${done} samples`);
  writeNew(file, consecutiveSamples(source, count, patienceMilliseconds, told));
  const restartFile = `${file}.restarts`;
  writeNew(restartFile, restartedSamples(source, restarts, each, patienceMilliseconds, undefined, told));
  return { source: source.name, file, samples: count, restartFile, restarts, each };
}

function usable(config: Config, { source: name, fallbackDirectory }: ProbeRequest) {
  const source = sourceNamed(config, name, fallbackDirectory);
  const availability = source.available();
  if (availability.ok) return source;
  throw new Failure('source-unavailable', `${name} is not here: ${availability.why}.`, {
    remedy: availability.remedy,
  });
}

function extentOf({ samples, restarts, each, seconds }: ProbeRequest): Extent {
  return {
    samples: samples ?? fullExtent.samples,
    restarts: restarts ?? fullExtent.restarts,
    each: each ?? fullExtent.each,
    patienceMilliseconds: seconds === undefined ? fullExtent.patienceMilliseconds : seconds * 1000,
  };
}

function histogramOf(samples: Uint8Array): number[] {
  const counts = new Array<number>(256).fill(0);
  for (const sample of samples) counts[sample] = (counts[sample] ?? 0) + 1;
  return counts;
}

function writeNew(path: string, bytes: Uint8Array): void {
  try {
    const fd = openSync(path, 'wx', 0o600);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new Failure('record-failed', `${path} cannot be written: ${reasonOf(error)}.`, {
      remedy: 'Name a file that is not there yet, in a directory that can be written.',
      cause: error,
    });
  }
}
