// Whether an endorsement key is a genuine TPM's: its certificate, chained to a pinned CA (TCG EK Credential Profile 2.5, section 3;
// RFC 5280, section 6). Pure: bytes and a time in, verdict out. Nothing here throws on a bad certificate.
import { createPublicKey, X509Certificate } from 'node:crypto';
import { reasonOf } from '../host/failure.ts';
import { publicKeyPem } from '../tpm/structures.ts';
import {
  type Appraisal,
  attempt,
  type CheckedAppraisal,
  conclude,
  failed,
  notProven,
  proven,
} from './verdict.ts';
import { type CertificateFields, certificateFields, oid, subjectPublicKeyOf } from './x509.ts';

export interface EkEvidence {
  /** DER; undefined where the TPM holds none. */
  readonly certificate: Uint8Array | undefined;
  /** TPMT_PUBLIC of the endorsement key that activated a credential. */
  readonly endorsementPublic: Uint8Array;
  /** DER or PEM. A chain may end at any of them, self-signed or not: pinning is the decision to trust it. */
  readonly pinned: readonly Uint8Array[];
  /** DER or PEM of certificates in between, believed only as far as a pinned CA vouches for them. */
  readonly intermediates?: readonly Uint8Array[];
  readonly at: Date;
}

/** Checks: certificate, public key, purpose, extensions, chain. */
export function appraiseEkCertificate(evidence: EkEvidence): CheckedAppraisal {
  const { certificate } = evidence;
  if (certificate === undefined) {
    return conclude({ certificate: notProven('The TPM holds no endorsement key certificate.') }, '');
  }
  const parsed = attempt(() => {
    const leaf = new X509Certificate(certificate);
    return { leaf, fields: certificateFields(leaf.raw) };
  });
  if (parsed.value === undefined) {
    return conclude({ certificate: failed('The endorsement key certificate could not be read.') }, '');
  }
  const { leaf, fields } = parsed.value;
  return conclude(
    {
      certificate: proven(`The certificate is by ${oneLine(leaf.issuer)}.`),
      'public key': checkKey(fields, evidence.endorsementPublic),
      purpose: checkPurpose(leaf, fields),
      extensions: checkExtensions(fields),
      chain: checkChain(leaf, evidence),
    },
    'A pinned TPM maker certified the endorsement key.',
  );
}

/** Manufacturer, model and version of the TPM that a certificate names; undefined where it cannot be read. */
export function tpmNamedIn(certificate: Uint8Array): string | undefined {
  return attempt(() => certificateFields(new X509Certificate(certificate).raw)).value?.tpm;
}

function checkKey({ subjectPublicKey }: CertificateFields, endorsementPublic: Uint8Array): Appraisal {
  try {
    const spki = createPublicKey(publicKeyPem(endorsementPublic)).export({ type: 'spki', format: 'der' });
    return Buffer.compare(subjectPublicKeyOf(spki), subjectPublicKey) === 0
      ? proven('The certificate is for this endorsement key.')
      : failed('The certificate is for another key.');
  } catch (thrown) {
    return failed(`The endorsement key could not be read: ${reasonOf(thrown)}`);
  }
}

/** An end entity of the EK purpose (profile, sections 3.2.16 and 3.2.17); many makers leave the purpose out. */
function checkPurpose(
  leaf: X509Certificate,
  { extendedKeyUsage, keyUsage, tpm }: CertificateFields,
): Appraisal {
  if (leaf.ca) return failed('The certificate is a CA’s.');
  if (extendedKeyUsage !== undefined && !extendedKeyUsage.includes(oid.ekCertificate)) {
    return failed('The certificate is not for endorsement keys: its extended key usage is another.');
  }
  if (keyUsage !== undefined && !keyUsage.some((usage) => usage !== 'keyCertSign')) {
    return failed('The certificate is not for a key that decrypts or agrees on keys.');
  }
  if (tpm === undefined)
    return failed('The certificate does not name a TPM in its subject alternative name.');
  return proven(`The certificate is for the endorsement key of a TPM: ${tpm}.`);
}

function checkExtensions({ unknownCritical }: CertificateFields): Appraisal {
  return unknownCritical.length === 0
    ? proven('Every critical extension is understood.')
    : failed(`A critical extension is not understood: ${unknownCritical.join(', ')}.`);
}

const longestChain = 6;

function checkChain(leaf: X509Certificate, evidence: EkEvidence): Appraisal {
  const pinned = readAll(evidence.pinned);
  if (pinned.length === 0) return notProven('No CA is pinned.');
  const between = readAll(evidence.intermediates ?? []);
  const chain = [leaf];
  while (chain.length < longestChain) {
    const last = chain.at(-1) ?? leaf;
    if (!isValidAt(last, evidence.at))
      return failed(`${oneLine(last.subject) || 'The certificate'} is not valid now.`);
    const anchor = pinned.find((issuer) => issued(issuer, last, chain.length - 1));
    if (anchor !== undefined) {
      return isValidAt(anchor, evidence.at)
        ? proven(`The chain ends at the pinned ${oneLine(anchor.subject)}.`)
        : failed(`The pinned ${oneLine(anchor.subject)} is not valid now.`);
    }
    const next = between.find((issuer) => issued(issuer, last, chain.length - 1) && !chain.includes(issuer));
    if (next === undefined) return failed(`No pinned CA issued the certificate of ${oneLine(last.issuer)}.`);
    chain.push(next);
  }
  return failed('The chain of certificates is too long.');
}

/** By name, key identifier and signature; `below`: CAs between the two. */
function issued(issuer: X509Certificate, subject: X509Certificate, below: number): boolean {
  if (!issuer.ca || !subject.checkIssued(issuer) || !subject.verify(issuer.publicKey)) return false;
  const fields = attempt(() => certificateFields(issuer.raw)).value;
  if (fields === undefined) return false;
  const { unknownCritical, keyUsage, pathLength = longestChain } = fields;
  const maySign = keyUsage === undefined || keyUsage.includes('keyCertSign');
  return maySign && unknownCritical.length === 0 && below <= pathLength;
}

function isValidAt(certificate: X509Certificate, at: Date): boolean {
  return certificate.validFromDate <= at && at <= certificate.validToDate;
}

/** Certificates that cannot be read vouch for nothing. */
function readAll(certificates: readonly Uint8Array[]): X509Certificate[] {
  return certificates.flatMap((bytes) => attempt(() => new X509Certificate(bytes)).value ?? []);
}

/** An empty name, as most of these certificates have it, is undefined at run time. */
const oneLine = (name: string | undefined): string => (name ?? '').split('\n').join(', ');
