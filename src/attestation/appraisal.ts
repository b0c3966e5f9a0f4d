// Appraisal of TPM evidence (RFC 9334; TPM 2.0 Library, Part 2, section 10.12): bytes in, verdict out.
// Pure: no TPM, no network, no files, no clock. Nothing here throws on bad evidence; malformed is `failed`, with the reason.
import { createHash } from 'node:crypto';
import { type Attest, hashAlgorithms, nameOf } from '../tpm/structures.ts';
import { type AttestedEvidence, appraiseAttested, checkKey } from './attested.ts';
import type { ClockReading } from './clock.ts';
import {
  type Appraisal,
  attempt,
  type CheckedAppraisal,
  conclude,
  failed,
  notProven,
  proven,
} from './verdict.ts';

export { type ClockReading, compareClock } from './clock.ts';
export type { Appraisal, CheckedAppraisal } from './verdict.ts';

export interface QuoteEvidence {
  /** TPMS_ATTEST, without a size. */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE. */
  readonly signature: Uint8Array;
  /** TPMT_PUBLIC of the attestation key, from the enrolment record. */
  readonly akPublic: Uint8Array;
  readonly expectedQualifyingData: Uint8Array;
  /** Hex of the SHA-256 bank, by PCR number. */
  readonly pcrValues: PcrValues;
  /** The quote must select these and no others, in the SHA-256 bank and in each of `otherBanks`. */
  readonly requiredPcrs: readonly number[];
  /** Banks that were quoted beside SHA-256; it can never be left out. */
  readonly otherBanks?: Readonly<Record<string, PcrValues>>;
}

/** Hex, by PCR number. */
export type PcrValues = Readonly<Record<string, string>>;

export interface QuoteAppraisal extends CheckedAppraisal {
  /** What the quote says about time; to be believed only when the quote is proven. */
  readonly clock: (ClockReading & { readonly clock: bigint }) | null;
}

/** Appraises a quote over the SHA-256 bank, and others where there are. Checks: attestation key, structure, signature, signer,
 * qualifying data, selection, PCR values. */
export function appraiseQuote(evidence: QuoteEvidence): QuoteAppraisal {
  const { attest, checks: attested } = appraiseAttested(attestedOf(evidence), 'quote');
  const quote = attest?.quote;
  const unread = notProven('The attestation could not be read as a quote.');
  const checks = {
    ...attested,
    selection: quote ? checkSelection(quote, evidence) : unread,
    'PCR values': quote ? checkPcrDigest(quote, evidence) : unread,
  };
  const all = evidence.requiredPcrs.join(', ');
  const whole = conclude(
    checks,
    `The attestation key signed this qualifying data and the values of PCRs ${all}.`,
  );
  return { ...whole, clock: attest === undefined ? null : clockOf(attest) };
}

const attestedOf = (evidence: QuoteEvidence | CertificationEvidence): AttestedEvidence => ({
  ...evidence,
  qualifyingData: [evidence.expectedQualifyingData],
});

function clockOf({ clock, resetCount, restartCount, safe }: Attest) {
  return { clock, resetCount, restartCount, safe };
}

export interface CertificationEvidence {
  readonly attest: Uint8Array;
  readonly signature: Uint8Array;
  readonly akPublic: Uint8Array;
  /** TPMT_PUBLIC of the key that is said to be in the same TPM. */
  readonly certifiedPublic: Uint8Array;
  readonly expectedQualifyingData: Uint8Array;
}

/** Appraises TPM2_Certify of a signing key. Checks: attestation key, structure, signature, signer,
 * qualifying data, name, certified key. */
export function appraiseCertification(evidence: CertificationEvidence): CheckedAppraisal {
  const { attest, checks: attested } = appraiseAttested(attestedOf(evidence), 'certify');
  const certify = attest?.certify;
  const unread = notProven('The attestation could not be read as a certification.');
  const checks = {
    ...attested,
    name: certify ? checkCertifiedName(certify.name, evidence.certifiedPublic) : unread,
    'certified key': checkSigningKey(evidence.certifiedPublic),
  };
  return conclude(
    checks,
    'The attestation key certified that the signing key was made in its TPM and cannot leave it.',
  );
}

/** The bundle signing key: it signs what it is given, and has never been outside its TPM. */
export function checkSigningKey(publicArea: Uint8Array): Appraisal {
  return checkKey('signing key', publicArea, ['sign', 'fixedTPM', 'fixedParent', 'sensitiveDataOrigin']);
}

function checkSelection(quote: NonNullable<Attest['quote']>, evidence: QuoteEvidence): Appraisal {
  const banks = banksOf(evidence);
  const selected = quote.selections.map(({ bank }) => bank);
  if (selected.toSorted().join() !== Object.keys(banks).toSorted().join()) {
    return failed(
      `The quote selects the banks ${selected.join(', ') || 'none'}; ${Object.keys(banks).join(', ')} alone are expected.`,
    );
  }
  const required = ascending(evidence.requiredPcrs);
  if (required.length === 0) return failed('No PCR is required of the quote.');
  const wanted = required.join(', ');
  for (const { bank, pcrs } of quote.selections) {
    if (pcrs.join(', ') !== wanted)
      return failed(
        `The quote selects PCRs ${pcrs.join(', ') || 'none'} of ${bank}; ${wanted} are required.`,
      );
    const given = Object.keys(banks[bank] ?? {});
    if (given.length !== required.length || !required.every((pcr) => given.includes(String(pcr)))) {
      return failed(
        `PCR values of ${bank} are given for ${given.join(', ') || 'none'}; ${wanted} are required.`,
      );
    }
  }
  return proven(`Exactly PCRs ${wanted} are quoted, of ${selected.join(', ')}.`);
}

function checkPcrDigest(quote: NonNullable<Attest['quote']>, evidence: QuoteEvidence): Appraisal {
  const banks = banksOf(evidence);
  const hash = createHash('sha256');
  for (const { bank, pcrs } of quote.selections) {
    const digits = 2 * (digestSizes[bank] ?? 0);
    for (const pcr of pcrs) {
      const value = banks[bank]?.[pcr];
      if (value === undefined) return failed(`The ${bank} value of PCR ${pcr} is missing.`);
      if (value.length !== digits || !/^[0-9a-f]+$/i.test(value))
        return failed(`The ${bank} value of PCR ${pcr} is not ${digits} hexadecimal digits.`);
      hash.update(Buffer.from(value, 'hex'));
    }
  }
  return Buffer.compare(hash.digest(), quote.digest) === 0
    ? proven('The PCR values hash to the quoted digest.')
    : failed('The PCR values do not hash to the quoted digest.');
}

const banksOf = ({ pcrValues, otherBanks }: QuoteEvidence): Readonly<Record<string, PcrValues>> => ({
  ...otherBanks,
  sha256: pcrValues,
});

const digestSizes: Readonly<Record<string, number>> = Object.fromEntries(
  [...hashAlgorithms.values()].map(({ name, size }) => [name, size]),
);

function checkCertifiedName(name: Uint8Array, certifiedPublic: Uint8Array): Appraisal {
  const own = attempt(() => nameOf(certifiedPublic));
  if (!own.value) return failed(`The public area of the signing key is malformed: ${own.reason}`);
  return Buffer.compare(name, own.value) === 0
    ? proven('The certified name is that of the signing key.')
    : failed('The certification is of another key.');
}

function ascending(pcrs: readonly number[]): number[] {
  return [...new Set(pcrs)].sort((a, b) => a - b);
}
