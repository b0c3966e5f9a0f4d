// The two documents of an approval, in JSON: what the node asks (esoteric-appliance-approval-request/1) and what the policy
// signer answers (esoteric-appliance-approval/1). Pure: text in, document or failure out.

import { Failure, reasonOf } from '../host/failure.ts';
import { z } from '../host/zod.ts';

const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hexadecimal digits');
const text = z.string().min(1).max(253);
const base64 = z
  .base64()
  .refine((bytes) => Buffer.from(bytes, 'base64').toString('base64') === bytes, 'expected canonical base64');
const state = {
  node: text,
  /** SHA-256 bank, hex by PCR number. */
  pcrs: z.object({
    bank: z.literal('sha256'),
    values: z.record(z.string().regex(/^(?:\d|1\d|2[0-3])$/, 'expected a PCR number, 0 to 23'), sha256Hex),
  }),
  /** The armed counter's value, decimal. */
  counter: z
    .string()
    .regex(/^(?:0|[1-9]\d{0,19})$/, { abort: true, error: 'expected a decimal number' }) // else BigInt would throw
    .refine((digits) => BigInt(digits) < 2n ** 64n, 'expected a number of 64 bits'),
  /** TPMS_NV_PUBLIC of the armed counter: that it is a counter must be seen, its Name alone does not show it. */
  counterPublic: base64,
  /** RFC 3339. */
  created: z.iso.datetime({ offset: true }),
};

const requestSchema = z.object({
  format: z.literal('esoteric-appliance-approval-request/1'),
  ...state,
  keys: z.array(z.object({ name: text, purpose: text })).min(1),
});
export type ApprovalRequest = z.infer<typeof requestSchema>;

const approvalSchema = z.object({
  format: z.literal('esoteric-appliance-approval/1'),
  ...state,
  keys: z
    .array(
      z.object({
        name: text,
        purpose: text,
        policyRef: sha256Hex,
        approvedPolicy: sha256Hex,
        /** DER. */
        signature: base64,
      }),
    )
    .min(1),
  /** Hex SHA-256 of the policy signer's SubjectPublicKeyInfo. */
  signer: sha256Hex,
});
export type Approval = z.infer<typeof approvalSchema>;

/** @throws Failure `approval-request-invalid` naming the first member that is wrong. */
export const parseApprovalRequest = (json: string): ApprovalRequest =>
  parse(requestSchema, json, 'approval-request-invalid', 'The approval request');

/** @throws Failure `approval-invalid` naming the first member that is wrong. */
export const parseApproval = (json: string): Approval =>
  parse(approvalSchema, json, 'approval-invalid', 'The approval');

/** Longer documents are refused. */
const longestDocument = 1 << 20;

function parse<T>(schema: z.ZodType<T>, json: string, code: string, what: string): T {
  const fail = (why: string): Failure =>
    new Failure(code, `${what} is not valid: ${why}.`, {
      remedy: 'Use the file as `esoteric-appliance` wrote it.',
    });
  if (json.length > longestDocument) throw fail(`it is longer than ${longestDocument} characters`);
  let document: unknown;
  try {
    document = JSON.parse(json);
  } catch (cause) {
    throw fail(`it is not JSON (${reasonOf(cause)})`);
  }
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw fail(`${issue?.path.join('.') || 'the document'}: ${issue?.message ?? 'not as expected'}`);
}
