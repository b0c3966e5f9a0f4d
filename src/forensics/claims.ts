// The words of a verdict: the claims about a bundle, what came of each, and when a bundle is accepted.
import type { Assurance, StatedProgram } from './format.ts';
import type { VerifyPolicy } from './verify-policy.ts';

/** All claims, in the order in which they are reported. */
export const claimNames = [
  'archive integrity',
  'manifest',
  'signature',
  'signer identity',
  'TPM identity',
  'transparency',
  'time',
  'quote',
  'PCR policy',
  'event log',
  'clock',
  'custody chain',
  'custody rollback',
  'sequence',
  'zeroize',
  'redaction',
] as const;
export type ClaimName = (typeof claimNames)[number];

/** All claims about the bundles of one node together, in the order in which they are reported. */
export const seriesClaimNames = ['sequence gaps', 'duplicates', 'rollback', 'forks'] as const;
export type SeriesClaimName = (typeof seriesClaimNames)[number];

export interface Appraisal {
  readonly result: 'proven' | 'failed' | 'not-proven';
  /** What was compared, or why it did not hold. */
  readonly detail: string;
}

export interface Claim extends Appraisal {
  readonly claim: ClaimName;
}

export interface SeriesClaim extends Appraisal {
  readonly claim: SeriesClaimName;
}

export type Verdict = 'proven' | 'incomplete' | 'rejected';

/** The JSON document of `verify --json`. */
export interface VerifyReport {
  readonly verdict: Verdict;
  readonly claims: readonly Claim[];
  /** As the manifest tells it; null where it cannot be read. To be believed as far as the claims carry it. */
  readonly bundle: {
    readonly node: string;
    readonly sequence: number;
    readonly created: string;
    readonly reason: string;
    readonly assurance: Assurance;
  } | null;
  /** What the node stated of its own program; null where it did not. The node's word, as far as the signature is proven. */
  readonly program: StatedProgram | null;
  /** Why the bundle was rejected although no claim failed. */
  readonly reasons: readonly string[];
}

export const proven = (detail: string): Appraisal => ({ result: 'proven', detail });
export const failed = (detail: string): Appraisal => ({ result: 'failed', detail });
export const notProven = (detail: string): Appraisal => ({ result: 'not-proven', detail });

/** A claim that would be proven, but for something that its proof stands on. */
export const weakened = (appraisal: Appraisal, why: string | undefined): Appraisal =>
  appraisal.result === 'proven' && why !== undefined ? notProven(`${appraisal.detail} ${why}`) : appraisal;

export function conclude(
  results: Readonly<Record<ClaimName, Appraisal>>,
  about: Pick<VerifyReport, 'bundle' | 'program'>,
  reasons: readonly string[],
): VerifyReport {
  const claims = claimNames.map((claim) => ({
    claim,
    result: results[claim].result,
    detail: results[claim].detail,
  }));
  return { verdict: verdictOf(claims, reasons), claims, ...about, reasons };
}

/** Pure. */
export function verdictOf(claims: readonly Appraisal[], reasons: readonly string[] = []): Verdict {
  if (reasons.length > 0 || claims.some(({ result }) => result === 'failed')) return 'rejected';
  return claims.every(({ result }) => result === 'proven') ? 'proven' : 'incomplete';
}

/** The report with another answer to a claim that was not proven by the bundle alone. */
export function strengthened(report: VerifyReport, name: ClaimName, appraisal: Appraisal): VerifyReport {
  const claims = report.claims.map((claim) =>
    claim.claim === name && claim.result === 'not-proven' ? { claim: name, ...appraisal } : claim,
  );
  return { ...report, verdict: verdictOf(claims, report.reasons), claims };
}

/** Whether `verify` ends with status 0: proven, or incomplete in nothing but what the policy or the caller allows. */
export function acceptable(
  report: { readonly verdict: Verdict; readonly claims: readonly (Claim | SeriesClaim)[] },
  policy: VerifyPolicy,
  allowBypassed: boolean,
): boolean {
  if (report.verdict !== 'incomplete') return report.verdict === 'proven';
  return (
    allowBypassed ||
    report.claims.every(
      ({ claim, result }) => result !== 'not-proven' || policy.mayBeUnproven.includes(claim),
    )
  );
}
