// The enrolment record: what a relying party keeps about a node to appraise its evidence later (RFC 9334, reference values
// and endorsements). Format esoteric-appliance-enrolment/1, JSON. Pure: text in, record or verdict out.
import { createHash, createPublicKey } from 'node:crypto';
import { z } from 'zod';
import { Failure, reasonOf } from '../host/failure.ts';
import { nameOf, publicKeyPem } from '../tpm/structures.ts';
import { appraiseCertification, checkAttestationKey, checkSigningKey } from './appraisal.ts';
import { type Appraisal, type CheckedAppraisal, conclude, failed, notProven, proven } from './verdict.ts';

/** What the attestation key signs when it certifies the signing key, so that the certification serves for nothing else. */
export const signingKeyQualifyingData: Uint8Array = createHash('sha256')
  .update('esoteric-appliance/signing-key/1')
  .digest();

const hex = z.string().regex(/^(?:[0-9a-f]{2})+$/, 'expected lower-case hexadecimal');
const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hexadecimal digits');
const handle = z.string().regex(/^0x[0-9a-f]{8}$/, 'expected a TPM handle such as 0x81000001');
const base64 = z
  .string()
  .min(1)
  .refine((text) => Buffer.from(text, 'base64').toString('base64') === text, 'expected canonical base64');
const pem = z.string().startsWith('-----BEGIN PUBLIC KEY-----', 'expected a PEM public key');
const count = z.int().nonnegative();
const pcrIndex = z.string().regex(/^(?:\d|1\d|2[0-3])$/, 'expected a PCR number, 0 to 23');

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
});

const recordSchema = z.object({
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
  const record = recordSchema.safeParse(parseJson(text));
  if (record.success) return record.data;
  const [issue] = record.error.issues;
  const where = issue?.path.join('.') || 'the record';
  throw invalid(`${where}: ${issue?.message ?? 'not as expected'}`);
}

/**
 * Whether the record holds together: the attestation key's name and public key follow from its public area, and it
 * certified the signing key. A node without a TPM, or with a simulator, is `not-proven` at best; `checks` tells the
 * single steps. That the attestation key lives in a genuine TPM is what enrolment itself must have established.
 */
export function checkEnrolment(record: EnrolmentRecord): CheckedAppraisal {
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
      'attestation key': checkAk(tpm.ak),
      'signing key': checkBundleKey(tpm.signingKey),
      certification: checkCertification(tpm),
      TPM: checkTpmKind(record.assurance.tpm),
    },
    'The keys of the record are of one TPM, which was tied to its maker when the node was enrolled.',
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

function checkTpmKind(kind: EnrolmentRecord['assurance']['tpm']): Appraisal {
  return kind === 'hardware'
    ? proven('The node was enrolled with a hardware TPM.')
    : notProven(
        'No EK certificate ties the TPM to its maker: it may be a simulator, and whoever runs that holds its keys.',
      );
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
