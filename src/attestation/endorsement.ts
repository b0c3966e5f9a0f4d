// What the TPM's maker vouches for: endorsement keys with their certificates, and whether a TPM may be called hardware (TCG EK
// Credential Profile 2.5; RFC 9334, endorsements). Pure: bytes, a time and verdicts in, a verdict out.
import type { EndorsementKind } from '../tpm/endorsement.ts';
import { appraiseEkCertificate, tpmNamedIn } from './ek-certificate.ts';
import type { Endorsement, EndorsementKey } from './endorsement-format.ts';
import { type Appraisal, type CheckedAppraisal, failed, notProven } from './verdict.ts';

/** What a relying party holds to judge by. */
export interface Pins {
  /** DER or PEM of CAs that it trusts to vouch for TPMs. */
  readonly pinned: readonly Uint8Array[];
  readonly at: Date;
}

export interface KeyAppraisal extends CheckedAppraisal {
  readonly key: EndorsementKey;
}

/** The chain of one endorsement key. */
export function appraiseKey(endorsement: Endorsement, key: EndorsementKey, pins: Pins): KeyAppraisal {
  const appraisal = appraiseEkCertificate({
    certificate: key.certificate === null ? undefined : bytes(key.certificate),
    endorsementPublic: bytes(key.public),
    pinned: pins.pinned,
    intermediates: endorsement.intermediates.map(bytes),
    at: pins.at,
  });
  return { ...appraisal, key };
}

/** The endorsement key to go by: the one whose chain is proven, else one whose chain at least says something. */
export function bestKey(endorsement: Endorsement, pins: Pins): KeyAppraisal {
  const all = endorsement.keys.map((key) => appraiseKey(endorsement, key, pins));
  const best =
    all.find(({ result }) => result === 'proven') ??
    all.find(({ result }) => result === 'failed') ??
    all.find(({ key }) => key.certificate !== null) ??
    all[0];
  if (best === undefined) throw new RangeError('An endorsement has at least one key.');
  return best;
}

export const keyOfKind = (endorsement: Endorsement, wanted: EndorsementKind): EndorsementKey | undefined =>
  endorsement.keys.find((key) => key.kind === wanted);

export interface TpmTie {
  /** What the TPM, or the way to it, says of itself. It can only make things worse. */
  readonly simulator: boolean;
  /** Of the endorsement key's certificate to a pinned CA. */
  readonly chain: Appraisal;
  /** Whether the attestation key was shown to be in the TPM of that endorsement key. */
  readonly activation: Appraisal;
  /** DER of the certificate. */
  readonly certificate: string | null;
}

export interface TpmKind {
  readonly tpm: 'hardware' | 'simulator';
  /** Why it is not more, for `assurance.notes`. */
  readonly notes: string[];
}

/**
 * `assurance.tpm` of a node with a TPM, and why it is not more. A TPM that says that it is a simulator is one, whoever certified
 * it; one that does not say so is believed as far as a pinned CA vouches for it, and a CA that calls it a simulator is believed too.
 */
export function tpmKindOf(tie: TpmTie): TpmKind {
  const certified = simulatorNamedIn(tie.certificate);
  const doubts = [
    ...(tie.simulator ? ['the TPM says that it is a simulator'] : []),
    ...(certified === undefined ? [] : [`the maker’s certificate names a simulator: ${certified}`]),
    ...(tie.chain.result === 'proven' ? [] : [`the TPM was not tied to its maker: ${tie.chain.detail}`]),
    ...(tie.activation.result === 'proven'
      ? []
      : [`the attestation key was not tied to the TPM: ${tie.activation.detail}`]),
  ];
  return { tpm: doubts.length === 0 ? 'hardware' : 'simulator', notes: doubts };
}

/** The name that a certificate gives a TPM, where it is that of a software one. */
export function simulatorNamedIn(certificate: string | null): string | undefined {
  const name = certificate === null ? undefined : tpmNamedIn(bytes(certificate));
  return name !== undefined && /swtpm|mssim|simulator/i.test(name) ? name : undefined;
}

/** Of a record without any endorsement, as `provision` wrote it before it looked for one. */
export const noEndorsement: Appraisal = notProven('The record names no endorsement key of the TPM.');
export const noSuchKey: Appraisal = failed(
  'The record has no endorsement key of the kind that was activated.',
);

const bytes = (text: string): Uint8Array => Buffer.from(text, 'base64');
