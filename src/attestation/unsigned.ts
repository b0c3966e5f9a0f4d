// Evidence that nobody signed: what a node without a TPM leaves beside its archive. An envelope of the usual form with an empty
// list of signatures, so that no reader can take it for a signed one.
import { z } from '../host/zod.ts';
import { bundleMediaType } from './sigstore-bundle.ts';
import { parseStatement, type Statement, statementPayloadType } from './statement.ts';

const schema = z.strictObject({
  mediaType: z.literal(bundleMediaType),
  verificationMaterial: z.strictObject({}),
  dsseEnvelope: z.strictObject({
    payload: z.base64(),
    payloadType: z.literal(statementPayloadType),
    signatures: z.tuple([]),
  }),
});

export function unsignedBundle(statement: Uint8Array): z.infer<typeof schema> {
  return {
    mediaType: bundleMediaType,
    verificationMaterial: {},
    dsseEnvelope: {
      payload: Buffer.from(statement).toString('base64'),
      payloadType: statementPayloadType,
      signatures: [],
    },
  };
}

/** The statement of unsigned evidence; null for anything that is not exactly that. */
export function readUnsigned(json: unknown): Statement | null {
  const checked = schema.safeParse(json);
  if (!checked.success) return null;
  try {
    return parseStatement(Buffer.from(checked.data.dsseEnvelope.payload, 'base64'));
  } catch {
    return null;
  }
}
