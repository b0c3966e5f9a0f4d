// The words of a verdict: the claims about a bundle, what came of each, and when a bundle is accepted.
import type { Assurance } from './format.ts';
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

export interface Appraisal {
  readonly result: 'proven' | 'failed' | 'not-proven';
  /** What was compared, or why it did not hold. */
  readonly detail: string;
}

export interface Claim extends Appraisal {
  readonly claim: ClaimName;
}

/** The JSON document of `verify --json`. */
export interface VerifyReport {
  readonly verdict: 'proven' | 'incomplete' | 'rejected';
  readonly claims: readonly Claim[];
  /** As the manifest tells it; null where it cannot be read. To be believed as far as the claims carry it. */
  readonly bundle: {
    readonly node: string;
    readonly sequence: number;
    readonly created: string;
    readonly reason: string;
    readonly assurance: Assurance;
  } | null;
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
  bundle: VerifyReport['bundle'],
  reasons: readonly string[],
): VerifyReport {
  const claims = claimNames.map((claim) => ({
    claim,
    result: results[claim].result,
    detail: results[claim].detail,
  }));
  const verdict =
    reasons.length > 0 || claims.some(({ result }) => result === 'failed')
      ? 'rejected'
      : claims.every(({ result }) => result === 'proven')
        ? 'proven'
        : 'incomplete';
  return { verdict, claims, bundle, reasons };
}

/** Whether `verify` ends with status 0: proven, or incomplete in nothing but what the policy or the caller allows. */
export function acceptable(report: VerifyReport, policy: VerifyPolicy, allowBypassed: boolean): boolean {
  if (report.verdict !== 'incomplete') return report.verdict === 'proven';
  return (
    allowBypassed ||
    report.claims.every(
      ({ claim, result }) => result !== 'not-proven' || policy.mayBeUnproven.includes(claim),
    )
  );
}
