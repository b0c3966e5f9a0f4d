// The enrolment record: what a relying party keeps about a node to appraise its evidence later (RFC 9334, reference values
// and endorsements). Format esoteric-appliance-enrolment/1, JSON. Pure: text in, record out.
import { createHash } from 'node:crypto';
import { Failure, reasonOf } from '../host/failure.ts';
import { repeatsKey } from '../host/json.ts';
import { z } from '../host/zod.ts';
import { base64, hex, milliseconds, pcrIndex, sha256Hex } from './encoding.ts';
import { endorsementSchema } from './endorsement-format.ts';

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
export type TpmEnrolment = z.infer<typeof tpmSchema>;

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
