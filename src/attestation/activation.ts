// The word of a relying party that it had a TPM prove itself: its signature over the enrolment record that it wrote (RFC 9334,
// section 8.2: an endorsement is believed for whoever signed it). A node can write any record about itself, with anything in it;
// what it cannot write is this signature. Pure.
import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import canonicalize from 'canonicalize';
import { Failure } from '../host/failure.ts';
import type { Endorsement } from './endorsement-format.ts';
import { type Appraisal, attempt, failed, notProven, proven } from './verdict.ts';

/** A record as far as it matters here: everything in it is signed. */
interface Endorsed {
  readonly endorsement?: Endorsement;
}
export type Activation = NonNullable<Endorsement['activation']>;

/** In front of what is signed, so that the signature serves for nothing else. */
const label = 'esoteric-appliance/enrolment/1\0';

/**
 * `record` with the relying party's word in it. `privateKey`: ECDSA P-256.
 * @throws Failure `verifier-key-unsuitable` for another key.
 */
export function signActivation<R extends Endorsed & { readonly endorsement: Endorsement }>(
  record: R,
  word: Pick<Activation, 'by' | 'at' | 'kind'>,
  privateKey: KeyObject,
): R {
  requireP256(privateKey);
  const unsigned = { ...word, signer: fingerprintOf(privateKey) };
  const message = messageOf(record, record.endorsement, unsigned);
  const signature = sign('sha256', message, privateKey).toString('base64');
  return { ...record, endorsement: { ...record.endorsement, activation: { ...unsigned, signature } } };
}

/** Whether one of the `enrollers` (public keys in PEM) had the attestation key of this very record activated. */
export function checkActivation(record: Endorsed, enrollers: readonly string[]): Appraisal {
  const { endorsement } = record;
  const activation = endorsement?.activation;
  if (endorsement === undefined || activation === undefined) {
    return notProven(
      'Only the node itself says that its attestation key is in the TPM of that endorsement key: nobody who enrolled it has asked the TPM.',
    );
  }
  const { by, at, signer, signature, ...rest } = activation;
  const known = enrollers.find((pem) => attempt(() => fingerprintOf(pem)).value === signer);
  if (known === undefined) {
    return notProven(
      `The record says that ${by} had the TPM activate a credential; no key of that verifier was given, and anyone can write so.`,
    );
  }
  const checked = attempt(() => {
    const message = messageOf(record, endorsement, { by, at, signer, ...rest });
    return verify('sha256', message, known, Buffer.from(signature, 'base64'));
  });
  return checked.value === true
    ? proven(
        `${by} had the TPM of that endorsement key activate a credential for the attestation key on ${at}.`,
      )
    : failed(`The record is not as ${by} signed it: it was changed since, or never signed.`);
}

/** Hex SHA-256 of the SubjectPublicKeyInfo. `key`: a key, or PEM. */
export function fingerprintOf(key: KeyObject | string): string {
  const publicKey = typeof key !== 'string' && key.type === 'public' ? key : createPublicKey(key);
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex');
}

/** @throws Failure `verifier-key-unsuitable`. */
export function requireP256(key: KeyObject): void {
  if (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return;
  throw new Failure('verifier-key-unsuitable', 'The verifier’s key is not an ECDSA P-256 key.', {
    remedy:
      'Name a file that does not exist yet, and one is made; or make one: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out verifier.pem`.',
  });
}

function messageOf(
  record: Endorsed,
  endorsement: Endorsement,
  word: Omit<Activation, 'signature'>,
): Uint8Array {
  const { by, at, kind, signer } = word;
  const signed = { ...record, endorsement: { ...endorsement, activation: { by, at, kind, signer } } };
  return Buffer.from(`${label}${canonicalize(signed)}`, 'utf8');
}
