// The four documents between a verifier and a node (RFC 9334, section 10.2: nonces): request -> evidence, and at enrolment
// challenge -> answer. JSON, one document a line. Pure: text in, document or failure out; what it holds is judged elsewhere.
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { repeatsKey } from '../host/json.ts';
import { z } from '../host/zod.ts';
import { base64, hex, pcrIndex, sha256Hex, time } from './encoding.ts';
import { recordSchema } from './enrolment.ts';
import { eventLogLimits } from './eventlog.ts';

/** 32 bytes, hex. */
const nonce = sha256Hex;

/** What the verifier wants quoted, and what makes the answer fresh. */
const requestSchema = z.strictObject({
  format: z.literal('esoteric-appliance-attest-request/1'),
  nonce,
  /** Ascending; each bank that the TPM has quotes these and no others. */
  pcrs: z
    .array(z.int().min(0).max(23))
    .min(1)
    .max(24)
    .refine(
      (pcrs) => pcrs.every((pcr, at) => at === 0 || pcr > (pcrs[at - 1] ?? 0)),
      'expected PCRs in order',
    ),
  created: time,
});
export type AttestRequest = z.infer<typeof requestSchema>;

const statementSchema = z.strictObject({
  nonce,
  created: time,
  /** As the node holds it, with everything that it says of itself. */
  enrolment: recordSchema,
  /** What the TPM, or the way to it, says of itself. */
  simulator: z.boolean(),
  /** Null where the firmware left none. */
  eventLog: base64.max(Math.ceil((eventLogLimits.bytes / 4 / 3) * 4)).nullable(),
});

const pcrValues = z.record(pcrIndex, hex);
const quoteSchema = z.strictObject({
  /** TPMS_ATTEST. */
  attest: base64.max(4096),
  /** TPMT_SIGNATURE. */
  signature: base64.max(4096),
  /** By bank. */
  pcrs: z.strictObject({
    sha256: pcrValues,
    sha1: pcrValues.exactOptional(),
    sha384: pcrValues.exactOptional(),
    sha512: pcrValues.exactOptional(),
  }),
});

const evidenceSchema = z.strictObject({
  format: z.literal('esoteric-appliance-attest-evidence/1'),
  statement: statementSchema,
  /** Its qualifying data is `quotedDigest` of the statement. */
  quote: quoteSchema,
});
export type AttestEvidence = z.infer<typeof evidenceSchema>;
export type EvidenceStatement = AttestEvidence['statement'];

const challengeSchema = z.strictObject({
  format: z.literal('esoteric-appliance-attest-challenge/1'),
  nonce,
  /** The endorsement key that it is made for. */
  kind: z.enum(['rsa', 'ecc']),
  /** TPMS_ID_OBJECT. */
  idObject: base64.max(400),
  encryptedSecret: base64.max(1400),
});
export type AttestChallenge = z.infer<typeof challengeSchema>;

const answerSchema = z.strictObject({
  format: z.literal('esoteric-appliance-attest-answer/1'),
  nonce,
  /** What the TPM gave back. */
  secret: base64.max(88),
});
export type AttestAnswer = z.infer<typeof answerSchema>;

/** Longer documents are refused before they are parsed. */
export const longestDocument = { evidence: 8 << 20, other: 1 << 16 } as const;

/** @throws Failure `attest-request-invalid`, status 2. */
export const parseRequest = (text: string): AttestRequest =>
  parse(requestSchema, text, 'request', exitStatus.usage).document;
/** @throws Failure `attest-challenge-invalid`, status 2. */
export const parseChallenge = (text: string): AttestChallenge =>
  parse(challengeSchema, text, 'challenge', exitStatus.usage).document;
/** @throws Failure `attest-answer-invalid`, status 3. */
export const parseAnswer = (text: string): AttestAnswer =>
  parse(answerSchema, text, 'answer', exitStatus.rejected).document;

/**
 * Evidence, and the digest of its statement as it was sent: members that a later version added are covered too.
 * @throws Failure `attest-evidence-invalid`, status 3.
 */
export function parseEvidence(text: string): { evidence: AttestEvidence; digest: Uint8Array } {
  const { document, raw } = parse(evidenceSchema, text, 'evidence', exitStatus.rejected);
  try {
    return { evidence: document, digest: quotedDigest((raw as AttestEvidence).statement) };
  } catch (cause) {
    throw invalid(
      'evidence',
      `its statement has no canonical form (${reasonOf(cause)})`,
      exitStatus.rejected,
    );
  }
}

/**
 * What the quote of evidence has as its qualifying data: the nonce with everything else in the statement, so that none of it can
 * be exchanged. The label keeps whoever sends nonces from having other things quoted, such as the digest of a bundle.
 */
export function quotedDigest(statement: EvidenceStatement): Uint8Array {
  const text = canonicalize(statement);
  return createHash('sha256').update(`esoteric-appliance/attest-evidence/1\0${text}`, 'utf8').digest();
}

type DocumentName = 'request' | 'evidence' | 'challenge' | 'answer';

function parse<T>(
  schema: z.ZodType<T>,
  text: string,
  name: DocumentName,
  status: 2 | 3,
): { document: T; raw: unknown } {
  const longest = name === 'evidence' ? longestDocument.evidence : longestDocument.other;
  if (text.length > longest) throw invalid(name, `it is longer than ${longest} characters`, status);
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    throw invalid(name, 'it is not JSON', status);
  }
  if (repeatsKey(text)) throw invalid(name, 'it has a key twice in one object', status);
  const result = schema.safeParse(raw);
  if (result.success) return { document: result.data, raw };
  const [issue] = result.error.issues;
  throw invalid(
    name,
    `${issue?.path.join('.') || 'the document'}: ${issue?.message ?? 'not as expected'}`,
    status,
  );
}

function invalid(name: DocumentName, why: string, status: 2 | 3): Failure {
  const article = name === 'evidence' ? 'The evidence' : `The ${name}`;
  return new Failure(`attest-${name}-invalid`, `${article} is not valid: ${why}.`, {
    remedy: 'Hand the document over as `esoteric-appliance attest` printed it, whole and unchanged.',
    status,
  });
}
