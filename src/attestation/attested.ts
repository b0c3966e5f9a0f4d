// What every attestation has to hold, whatever it is about: an attestation key that signs nothing else, its signature, and that it was
// made for this purpose (TPM 2.0 Library, Part 2, section 10.12). Pure: bytes in, verdict out; malformed is `failed`, with the reason.
import { verify } from 'node:crypto';
import {
  type Attest,
  type ObjectAttribute,
  parseAttest,
  parsePublic,
  parseSignature,
  publicKeyPem,
  qualifiedName,
  signatureDer,
} from '../tpm/structures.ts';
import { type Appraisal, type Attempt, attempt, failed, notProven, proven } from './verdict.ts';

export interface AttestedEvidence {
  /** TPMS_ATTEST, without a size. */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE. */
  readonly signature: Uint8Array;
  /** TPMT_PUBLIC of the attestation key, from the enrolment record. */
  readonly akPublic: Uint8Array;
  /** It was made for one of these. */
  readonly qualifyingData: readonly Uint8Array[];
}

/**
 * Checks: attestation key, structure, signature, signer, qualifying data. `attest` is undefined where it cannot be read; its contents
 * are to be believed only where all checks are proven.
 */
export function appraiseAttested(
  evidence: AttestedEvidence,
  type: Attest['type'],
): { readonly attest: Attest | undefined; readonly checks: Record<string, Appraisal> } {
  const attest = attempt(() => parseAttest(evidence.attest));
  const unread = notProven('The attestation could not be read.');
  const checks = {
    'attestation key': checkAttestationKey(evidence.akPublic),
    structure: checkType(attest, type),
    signature: checkSignature(evidence),
    signer: attest.value ? checkSigner(attest.value, evidence.akPublic) : unread,
    'qualifying data': attest.value ? checkQualifyingData(attest.value, evidence) : unread,
  };
  return { attest: attest.value, checks };
}

/** A restricted key signs nothing that merely looks like an attestation, so its signature vouches for the TPM. */
export function checkAttestationKey(publicArea: Uint8Array): Appraisal {
  return checkKey('attestation key', publicArea, [
    'restricted',
    'sign',
    'fixedTPM',
    'fixedParent',
    'sensitiveDataOrigin',
  ]);
}

export function checkKey(
  what: string,
  publicArea: Uint8Array,
  required: readonly ObjectAttribute[],
): Appraisal {
  const key = attempt(() => parsePublic(publicArea));
  if (!key.value) return failed(`The public area of the ${what} is malformed: ${key.reason}`);
  const { value } = key;
  const missing = required.filter((attribute) => !value[attribute]);
  if (missing.length > 0) return failed(`The ${what} is not ${missing.join(', ')}.`);
  if (value.decrypt) return failed(`The ${what} may decrypt as well.`);
  if (value.ecc?.curve !== 'P-256') return failed(`The ${what} is not an ECDSA P-256 key.`);
  const { algorithm, hash } = value.scheme;
  if (algorithm !== 'any' && (algorithm !== 'ecdsa' || hash !== 'sha256')) {
    return failed(`The ${what} is not bound to ECDSA with SHA-256.`);
  }
  if (value.nameAlg === 'sha1') return failed(`The name of the ${what} is made with SHA-1.`);
  return proven(`The ${what} is an ECDSA P-256 key with the attributes ${required.join(', ')}.`);
}

function checkType(attest: Attempt<Attest>, wanted: Attest['type']): Appraisal {
  if (!attest.value) return failed(attest.reason);
  if (attest.value.type !== wanted)
    return failed(`The attestation is of type ${attest.value.type}, not ${wanted}.`);
  return proven(`The attestation is a ${wanted} made by a TPM.`);
}

function checkSignature(evidence: AttestedEvidence): Appraisal {
  const checked = attempt(() => {
    const { hash } = parseSignature(evidence.signature);
    if (hash !== 'sha256') return failed(`The signature is over ${hash}, not over SHA-256.`);
    const der = signatureDer(evidence.signature);
    return verify('sha256', evidence.attest, publicKeyPem(evidence.akPublic), der)
      ? proven('The signature of the attestation key is valid.')
      : failed('The signature is not of the attestation key over this attestation.');
  });
  return checked.value ?? failed(checked.reason);
}

/**
 * The signed qualified name covers every bit of the key's public area and the hierarchy it is in. Only under the
 * endorsement hierarchy are the reset and restart counts told as they are (Part 2, section 10.12.12).
 */
function checkSigner(attest: Attest, akPublic: Uint8Array): Appraisal {
  const expected = attempt(() => qualifiedName('endorsement', akPublic));
  return expected.value && Buffer.compare(attest.qualifiedSigner, expected.value) === 0
    ? proven('The signer is the attestation key, a primary key of the endorsement hierarchy.')
    : failed('The signer is not the attestation key as a primary key of the endorsement hierarchy.');
}

function checkQualifyingData({ extraData }: Attest, { qualifyingData }: AttestedEvidence): Appraisal {
  return qualifyingData.some((expected) => Buffer.compare(expected, extraData) === 0)
    ? proven('The qualifying data is the expected one.')
    : failed('The qualifying data is not the expected one: the attestation was made for something else.');
}
