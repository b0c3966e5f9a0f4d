// `scan`: all noise sources there are, and what this machine makes of each.
import type { AssessmentRecord } from '../entropy/assessment/record.ts';
import { creditInUse } from '../entropy/assessment/record.ts';
import { readAssessments } from '../entropy/assessment/record-file.ts';
import { noiseSources } from '../entropy/catalogue.ts';
import { type CreditPolicy, creditFor, loadCreditPolicy, type SourceCredit } from '../entropy/credit.ts';
import { unknownSource } from '../entropy/members.ts';
import type { NoiseSource } from '../entropy/source.ts';
import type { Config } from './config.ts';
import { policyPath } from './policies.ts';
import { sourceSettings } from './pool.ts';

/** The JSON contract of `scan --json` (docs/cli.md). */
export interface ScannedSource {
  readonly name: string;
  readonly family: string;
  readonly physical: string;
  readonly available: boolean;
  readonly why?: string;
  readonly remedy?: string;
  /** `recorded`: not exercised on hardware by the tests of this program. */
  readonly exercised: 'live' | 'recorded';
  readonly pace: 'quick' | 'patient';
  /** Bits a sample that count now: the least of the assessment, the restart test and the policy. */
  readonly credit: number;
  /** What the policy grants at most. */
  readonly policyCredit: number;
  /** The assessment that is kept for this machine; null without one (quick sources are then assessed in brief at each start). */
  readonly assessment: Pick<AssessmentRecord, 'kind' | 'made' | 'samples' | 'minEntropy' | 'restart'> | null;
}

export function scanSources(config: Config, fallbackDirectory: string): ScannedSource[] {
  const policy = creditPolicy();
  const records = readAssessments(config.node.state_dir);
  return noiseSources(sourceSettings(config, fallbackDirectory)).map((source) => {
    const availability = source.available();
    const granted = creditFor(policy, source.name);
    const record = records.get(source.name);
    return {
      name: source.name,
      family: source.family,
      physical: source.physical,
      available: availability.ok,
      ...(availability.ok ? {} : { why: availability.why, remedy: availability.remedy }),
      exercised: source.exercised,
      pace: source.pace,
      credit: availability.ok ? creditInUse(granted, record) : 0,
      policyCredit: granted.credit,
      assessment: record === undefined ? null : summaryOf(record),
    };
  });
}

/** @throws Failure `source-unknown`. */
export function sourceNamed(config: Config, name: string, fallbackDirectory: string): NoiseSource {
  const known = noiseSources(sourceSettings(config, fallbackDirectory));
  const found = known.find((source) => source.name === name);
  if (found !== undefined) return found;
  throw unknownSource(
    name,
    known.map((source) => source.name),
  );
}

export const policyOf = (name: string): SourceCredit => creditFor(creditPolicy(), name);

const creditPolicy = (): CreditPolicy => loadCreditPolicy(policyPath('entropy.toml'));

const summaryOf = ({
  kind,
  made,
  samples,
  minEntropy,
  restart,
}: AssessmentRecord): ScannedSource['assessment'] => ({
  kind,
  made,
  samples,
  minEntropy,
  restart,
});
