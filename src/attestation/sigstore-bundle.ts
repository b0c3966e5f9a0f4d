// The Sigstore bundle v0.3 as this appliance writes it: one DSSE envelope, then what witnesses add to it.
// https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto (its JSON mapping)

import { Failure } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import { readSigningKey, sshFingerprint } from './dsse.ts';
import { statementPayloadType } from './statement.ts';

export const bundleMediaType = 'application/vnd.dev.sigstore.bundle.v0.3+json';

/** Base64 that has one reading only: standard alphabet, padded, no stray bits. Otherwise bytes could change unseen. */
const isCanonical = (text: string): boolean => Buffer.from(text, 'base64').toString('base64') === text;
const bytes = z.string().min(1).refine(isCanonical, 'expected canonical base64');
/** A 64-bit number, a string in protobuf's JSON mapping, which leaves out zero. */
const number = z
  .string()
  .regex(/^(0|[1-9]\d{0,18})$/, 'expected a decimal number as a string')
  .optional();

/** A log's checkpoint: its lines, an empty one, and a line for each signature (`— name base64`). */
const signedNote = z.string().refine((note) => {
  const [, ...signed] = note.split('\n\n');
  const lines = signed.join('\n\n').replace(/\n$/, '').split('\n');
  return lines.every((line) => /^\u2014 \S+ \S+$/.test(line) && isCanonical(line.split(' ')[2] ?? '-'));
}, 'expected signatures in canonical base64');

/** The proof repeats what its signed checkpoint says; only a proof that repeats it rightly is read. */
const inclusionProof = z
  .strictObject({
    logIndex: number,
    rootHash: bytes,
    treeSize: number,
    hashes: z.array(bytes).optional(),
    checkpoint: z.strictObject({ envelope: signedNote }),
  })
  .refine(({ treeSize, rootHash, checkpoint }) => {
    const [, signedSize, signedRoot] = checkpoint.envelope.split('\n');
    return signedSize === treeSize && signedRoot === rootHash;
  }, 'expected the tree size and root hash of the checkpoint');

const tlogEntry = z.strictObject({
  logIndex: number,
  logId: z.strictObject({ keyId: bytes }),
  kindVersion: z.strictObject({ kind: z.literal('dsse'), version: z.string() }),
  integratedTime: number,
  inclusionPromise: z.strictObject({ signedEntryTimestamp: bytes }).optional(),
  inclusionProof,
  canonicalizedBody: bytes,
});

/** As many as other verifiers look at (sigstore-go): each is checked against all others, and a thousand take a quarter of a minute. */
const mostWitnesses = 32;

const verificationMaterial = {
  tlogEntries: z.array(tlogEntry).max(mostWitnesses).optional(),
  timestampVerificationData: z
    .strictObject({
      rfc3161Timestamps: z
        .array(z.strictObject({ signedTimestamp: bytes }))
        .max(mostWitnesses)
        .optional(),
    })
    .optional(),
};

const sigstoreBundle = z.strictObject({
  mediaType: z.literal(bundleMediaType),
  verificationMaterial: z.union([
    z.strictObject({ publicKey: z.strictObject({ hint: z.string() }), ...verificationMaterial }),
    z.strictObject({ certificate: z.strictObject({ rawBytes: bytes }), ...verificationMaterial }),
  ]),
  dsseEnvelope: z.strictObject({
    payload: bytes,
    payloadType: z.literal(statementPayloadType),
    signatures: z.tuple([z.strictObject({ sig: bytes, keyid: z.string() })]),
  }),
});

export type SigstoreBundle = z.infer<typeof sigstoreBundle>;

/**
 * The node's side, offline: the statement and its signature by the node's key alone. Such a bundle is *pending*
 * until it is countersigned. `signatureDer` is ECDSA over the SHA-256 of `preAuthEncoding(statementPayloadType, statement)`.
 */
export function bareBundle(signed: {
  readonly statement: Uint8Array;
  readonly signatureDer: Uint8Array;
  readonly publicKeyPem: string;
}): SigstoreBundle {
  const keyid = sshFingerprint(readSigningKey(signed.publicKeyPem));
  return {
    mediaType: bundleMediaType,
    verificationMaterial: { publicKey: { hint: keyid } },
    dsseEnvelope: {
      payload: Buffer.from(signed.statement).toString('base64'),
      payloadType: statementPayloadType,
      signatures: [{ sig: Buffer.from(signed.signatureDer).toString('base64'), keyid }],
    },
  };
}

/** Reads a bundle strictly: what we do not know, or could read in two ways, is refused. Throws `bundle-invalid`. */
export function parseSigstoreBundle(json: unknown): SigstoreBundle {
  const checked = sigstoreBundle.safeParse(json);
  if (checked.success) return checked.data;
  const why = z.prettifyError({ issues: checked.error.issues.flatMap(within) }).replaceAll(/\s*\n\s*/g, ' ');
  throw new Failure(
    'bundle-invalid',
    `This is not a Sigstore bundle v0.3 around an in-toto statement: ${why}.`,
  );
}

/** Of what is none of two forms, what is wrong with it as the form that it is closer to. */
function within(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const [closest = []] = issue.errors.toSorted((a, b) => a.length - b.length);
  return closest.map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] }));
}
