// The enrolment record: what a relying party keeps about a node to appraise its evidence later (RFC 9334, reference values
// and endorsements). Format esoteric-appliance-enrolment/1, JSON. Pure: text in, record or verdict out.
import { createHash, createPublicKey } from 'node:crypto';
import { z } from 'zod';
import { Failure, reasonOf } from '../host/failure.ts';
import { repeatsKey } from '../host/json.ts';
import { nameOf, publicKeyPem } from '../tpm/structures.ts';
import { checkActivation } from './activation.ts';
import { appraiseCertification, checkSigningKey } from './appraisal.ts';
import { checkAttestationKey } from './attested.ts';
import { base64, hex, milliseconds, pcrIndex, sha256Hex } from './encoding.ts';
import {
  appraiseKey,
  bestKey,
  keyOfKind,
  noEndorsement,
  noSuchKey,
  simulatorNamedIn,
} from './endorsement.ts';
import { type Endorsement, endorsementSchema } from './endorsement-format.ts';
import { type Appraisal, type CheckedAppraisal, conclude, failed, notProven, proven } from './verdict.ts';

/** What the attestation key signs when it certifies the signing key, so that the certification serves for nothing else. */
export const signingKeyQualifyingData: Uint8Array = createHash('sha256')
  .update('esoteric-appliance/signing-key/1')
  .digest();

const handle = z.string().regex(/^0x[0-9a-f]{8}$/, 'expected a TPM handle such as 0x81000001');
const pem = z.string().startsWith('-----BEGIN PUBLIC KEY-----', 'expected a PEM public key');
const count = z.int().nonnegative();

const tpmSchema = z.object({
  manufacturer: z.string(),
  firmware: z.string(),
  srk: z.object({ handle, name: hex }),
  ak: z.object({ handle, name: hex, public: base64, publicKey: pem }),
  signingKey: z.object({
    name: hex,
    public: base64,
    publicKey: pem,
    certification: z.object({ attest: base64, signature: base64 }),
  }),
  pcrPolicy: z
    .object({ bank: z.literal('sha256'), pcrs: z.record(pcrIndex, sha256Hex) })
    .refine(({ pcrs }) => Object.keys(pcrs).length > 0, 'expected at least one PCR'),
  capPcr: z.int().min(0).max(15),
  resetCount: count,
  restartCount: count,
  /** NV indices that the node keeps; absent in older records. */
  nv: z.object({ sequence: handle, armed: handle, custody: handle }).exactOptional(),
  /** With the counts: what the TPM's clock said, where a relying party has seen a quote. */
  clock: milliseconds.exactOptional(),
});

/** Also inside evidence (evidence.ts). */
export const recordSchema = z.object({
  format: z.literal('esoteric-appliance-enrolment/1'),
  node: z.string().min(1).max(253),
  role: z.string().min(1),
  created: z.iso.datetime({ offset: true }),
  assurance: z.object({
    tpm: z.enum(['hardware', 'simulator', 'bypassed']),
    sigstore: z.enum(['on', 'pending', 'bypassed']),
    standIns: z.array(z.string()),
    notes: z.array(z.string()),
  }),
  tpm: tpmSchema.nullable(),
  signingKey: z.object({ publicKey: pem }).nullable().exactOptional(),
  keys: z.array(z.object({ name: z.string().min(1), purpose: z.string().min(1), publicKey: base64 })),
  custodyHead: z.object({ sequence: count, hash: sha256Hex }),
  /** What the TPM's maker vouches for, and who checked it. Absent in records of nodes without a TPM, and in older ones. */
  endorsement: endorsementSchema.exactOptional(),
});

/** Binary members are base64, names hex, times RFC 3339; `signingKey` is present only where `tpm` is null. */
export type EnrolmentRecord = z.infer<typeof recordSchema>;
type TpmEnrolment = z.infer<typeof tpmSchema>;

/** Longer records are refused. */
const longestRecord = 1 << 20;

/**
 * Parses an enrolment record. Members this version does not know are dropped.
 * @throws Failure `enrolment-invalid`, naming the first member that is wrong and what was expected.
 */
export function parseEnrolment(text: string): EnrolmentRecord {
  if (text.length > longestRecord) throw invalid(`it is longer than ${longestRecord} characters`);
  const json = parseJson(text);
  if (repeatsKey(text)) throw invalid('it has a key twice in one object');
  const record = recordSchema.safeParse(json);
  if (record.success) return record.data;
  const [issue] = record.error.issues;
  const where = issue?.path.join('.') || 'the record';
  throw invalid(`${where}: ${issue?.message ?? 'not as expected'}`);
}

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

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalid(`it is not JSON (${reasonOf(cause)})`);
  }
}

function invalid(why: string): Failure {
  return new Failure('enrolment-invalid', `The enrolment record is not valid: ${why}.`, {
    remedy: 'Use the file that `esoteric-appliance provision` wrote for this node.',
  });
}
