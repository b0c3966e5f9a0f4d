// Whether an enrolment record holds together, and is of a genuine TPM (RFC 9334, appraisal of endorsements). Pure: record in, verdict out.
import { createPublicKey } from 'node:crypto';
import { reasonOf } from '../host/failure.ts';
import { nameOf, publicKeyPem } from '../tpm/structures.ts';
import { checkActivation } from './activation.ts';
import { appraiseCertification, checkSigningKey } from './appraisal.ts';
import { checkAttestationKey } from './attested.ts';
import {
  appraiseKey,
  bestKey,
  keyOfKind,
  noEndorsement,
  noSuchKey,
  simulatorNamedIn,
} from './endorsement.ts';
import type { Endorsement } from './endorsement-format.ts';
import { type EnrolmentRecord, signingKeyQualifyingData, type TpmEnrolment } from './enrolment.ts';
import { type Appraisal, type CheckedAppraisal, conclude, failed, notProven, proven } from './verdict.ts';

/** By what a relying party judges records. Without either, no record is proven. */
export interface EnrolmentTrust {
  /** DER or PEM of the CAs that it lets vouch for TPMs. */
  readonly pinned: readonly Uint8Array[];
  /** PEM of the public keys of those whom it believes that they enrolled: its own, as a rule. */
  readonly enrollers: readonly string[];
}

/**
 * Whether the record holds together and is of a genuine TPM: names and public keys follow from the public areas, the attestation
 * key certified the signing key, a pinned CA vouches for the endorsement key, and somebody who is trusted to enrol had that TPM
 * activate a credential for the attestation key. What only the node says is `not-proven`, and so is a simulator; `checks` tells
 * the single steps. Certificates are looked at as of the activation, which has no other time to trust.
 */
export function checkEnrolment(
  record: EnrolmentRecord,
  trust: EnrolmentTrust = { pinned: [], enrollers: [] },
): CheckedAppraisal {
  const { tpm } = record;
  if ((record.assurance.tpm === 'bypassed') !== (tpm === null)) {
    return conclude(
      { assurance: failed('The record contradicts itself: `assurance.tpm` and `tpm` disagree.') },
      '',
    );
  }
  if (tpm === null) {
    return conclude({ TPM: notProven('No TPM: the node was provisioned with the TPM bypassed.') }, '');
  }
  return conclude(
    {
      ...checkRecordKeys(record).checks,
      certification: checkCertification(tpm),
      TPM: checkTpmKind(record),
      endorsement: checkEndorsement(record, trust),
      activation: checkActivation(record, trust.enrollers),
    },
    'The keys of the record are of one TPM, which was tied to its maker when the node was enrolled.',
  );
}

/** The part that a record shows by itself, whoever wrote it: its names and public keys follow from the public areas. */
export function checkRecordKeys({ tpm }: EnrolmentRecord): CheckedAppraisal {
  if (tpm === null) return conclude({ TPM: failed('The record is of a node without a TPM.') }, '');
  return conclude(
    { 'attestation key': checkAk(tpm.ak), 'signing key': checkBundleKey(tpm.signingKey) },
    'The names and public keys of the record follow from its public areas.',
  );
}

function checkAk(ak: TpmEnrolment['ak']): Appraisal {
  const attributes = checkAttestationKey(bytes(ak.public));
  return attributes.result === 'proven' ? checkIdentity('attestation key', ak) : attributes;
}

function checkBundleKey(key: TpmEnrolment['signingKey']): Appraisal {
  const attributes = checkSigningKey(bytes(key.public));
  return attributes.result === 'proven' ? checkIdentity('signing key', key) : attributes;
}

/** Name and PEM are derived from the public area; where they differ, someone edited the record. */
function checkIdentity(what: string, key: { name: string; public: string; publicKey: string }): Appraisal {
  try {
    const area = bytes(key.public);
    if (Buffer.from(nameOf(area)).toString('hex') !== key.name) {
      return failed(`The name of the ${what} does not follow from its public area.`);
    }
    if (!spki(publicKeyPem(area)).equals(spki(key.publicKey))) {
      return failed(`The public key of the ${what} is not the one in its public area.`);
    }
    return proven(`The name and public key of the ${what} follow from its public area.`);
  } catch (thrown) {
    return failed(`The ${what} is malformed: ${reasonOf(thrown)}`);
  }
}

function checkCertification(tpm: TpmEnrolment): Appraisal {
  const { result, detail } = appraiseCertification({
    attest: bytes(tpm.signingKey.certification.attest),
    signature: bytes(tpm.signingKey.certification.signature),
    akPublic: bytes(tpm.ak.public),
    certifiedPublic: bytes(tpm.signingKey.public),
    expectedQualifyingData: signingKeyQualifyingData,
  });
  return { result, detail };
}

function checkTpmKind({ assurance, endorsement }: EnrolmentRecord): Appraisal {
  const certified = endorsement?.keys.map(({ certificate }) => simulatorNamedIn(certificate)).find(Boolean);
  if (certified !== undefined)
    return notProven(`The maker’s certificate itself names a simulator: ${certified}.`);
  return assurance.tpm === 'hardware'
    ? proven('The record is of a hardware TPM, as far as it says.')
    : notProven('The TPM is, or may be, a simulator: whoever runs that holds its keys.');
}

function checkEndorsement({ endorsement, created }: EnrolmentRecord, trust: EnrolmentTrust): Appraisal {
  if (endorsement === undefined) return noEndorsement;
  const { result, detail } = chainOf(endorsement, { pinned: trust.pinned, at: created });
  return { result, detail };
}

function chainOf(
  endorsement: Endorsement,
  judged: { readonly pinned: EnrolmentTrust['pinned']; readonly at: string },
): Appraisal {
  const { activation } = endorsement;
  const pins = { pinned: judged.pinned, at: new Date(activation?.at ?? judged.at) };
  if (activation === undefined) return bestKey(endorsement, pins);
  const key = keyOfKind(endorsement, activation.kind);
  return key === undefined ? noSuchKey : appraiseKey(endorsement, key, pins);
}

function spki(key: string): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

function bytes(text: string): Uint8Array {
  return Buffer.from(text, 'base64');
}
