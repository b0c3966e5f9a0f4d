// The kinds of attestation of a program, and what comes of one. By itself, for it is known to those that load no verifier.

export const attestationKinds = ['provenance', 'sbom'] as const;
export type AttestationKind = (typeof attestationKinds)[number];

/** What came of one kind of attestation. `detail` is a sentence; none says more than was looked at. */
export interface AttestationOutcome {
  readonly result: 'verified' | 'absent' | 'failed';
  readonly detail: string;
  /** Whom the certificate names, and who vouches for that; only where it is verified. */
  readonly by?: string;
  /** Verified against a trusted root of services that stand in for real ones: it meets no requirement. */
  readonly standIns?: boolean;
}
