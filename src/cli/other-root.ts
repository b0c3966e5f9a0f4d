// A hint for whoever verifies against the root of the public Sigstore what services of another root have countersigned.
import type { VerifyReport } from '../forensics/claims.ts';

/** Lines to print below what came of it: none where a root was given, or nothing failed that is held against it. */
export function otherRoot(
  trustedRoot: string | undefined,
  reports: readonly Pick<VerifyReport, 'claims'>[],
): string[] {
  return trustedRoot === undefined && reports.some(failedByRoot) ? [hint] : [];
}

const hint =
  'This was held against the root of the public Sigstore. Where the node uses services of its own, name theirs with --trusted-root.';

const failedByRoot = ({ claims }: Pick<VerifyReport, 'claims'>): boolean =>
  claims.some(
    ({ claim, result }) => result === 'failed' && ['signer identity', 'transparency', 'time'].includes(claim),
  );
