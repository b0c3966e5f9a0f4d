// The in-toto Statement v1 over one archive, in canonical JSON (RFC 8785), and the strict reading of it.
// https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md

import canonicalize from 'canonicalize';
import { Failure } from '../host/failure.ts';
import { z } from '../host/zod.ts';

export const statementType = 'https://in-toto.io/Statement/v1';
export const predicateType = 'urn:esoteric-appliance:forensic-bundle:1';
/** The DSSE payload type of every in-toto statement. */
export const statementPayloadType = 'application/vnd.in-toto+json';

const hexSha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hexadecimal digits');
const base64 = z.base64();
const count = z.int().nonnegative();

const assurance = z.looseObject({
  tpm: z.enum(['hardware', 'simulator', 'bypassed']),
  sigstore: z.enum(['on', 'pending', 'bypassed']),
  standIns: z.array(z.string()),
  notes: z.array(z.string()),
});

const signedAttest = z.looseObject({ attest: base64, signature: base64 });

const attested = z.looseObject({
  result: z.enum(['verified', 'absent', 'failed']),
  detail: z.string(),
  by: z.string().optional(),
  standIns: z.boolean().optional(),
});

const predicate = z.looseObject({
  node: z.string().min(1),
  sequence: count,
  created: z.iso.datetime(),
  reason: z.string(),
  assurance,
  manifestDigest: z.strictObject({ sha256: hexSha256 }),
  quote: z.nullable(
    z.looseObject({
      attest: base64,
      signature: base64,
      pcrs: z.looseObject({ bank: z.literal('sha256'), values: z.record(z.string(), z.string()) }),
    }),
  ),
  eventLog: z.nullable(z.looseObject({ path: z.string(), sha256: hexSha256 })),
  clock: z.nullable(
    z.looseObject({
      clock: z.string().regex(/^\d+$/),
      resetCount: count,
      restartCount: count,
      safe: z.boolean(),
    }),
  ),
  signingKeyCertification: z.nullable(signedAttest),
  /** NV certifications by the AK: both counters over the archive's SHA-256, the custody head over its last record's hash. */
  nv: z
    .nullable(z.looseObject({ sequence: signedAttest, armed: signedAttest, custody: signedAttest }))
    .optional(),
  custodyHead: z.looseObject({ sequence: count, hash: hexSha256 }),
  /** What the node found attested of its own program when that started; absent in earlier statements. */
  program: z
    .looseObject({
      version: z.string(),
      digest: z.nullable(z.strictObject({ sha256: hexSha256 })),
      changed: z.array(z.string()),
      provenance: attested,
      sbom: attested,
    })
    .optional(),
});

const statement = z.strictObject({
  _type: z.literal(statementType),
  subject: z.tuple([
    z.strictObject({ name: z.string().min(1), digest: z.strictObject({ sha256: hexSha256 }) }),
  ]),
  predicateType: z.literal(predicateType),
  predicate,
});

/** What the node states about one archive: docs/bundle-format.md. Further fields may come; these stay. */
export type BundlePredicate = z.infer<typeof predicate>;
export type Statement = z.infer<typeof statement>;

/** The statement's bytes, exactly as they are signed. `archiveSha256` is lower-case hex. */
export function makeStatement(about: {
  readonly archiveName: string;
  readonly archiveSha256: string;
  readonly predicate: BundlePredicate;
}): Uint8Array {
  const checked = statement.safeParse({
    _type: statementType,
    subject: [{ name: about.archiveName, digest: { sha256: about.archiveSha256 } }],
    predicateType,
    predicate: about.predicate,
  });
  if (!checked.success) throw invalidStatement(z.prettifyError(checked.error));
  return Buffer.from(canonicalize(checked.data) ?? '', 'utf8');
}

/**
 * Reads a statement strictly: these fields, these types, one subject, in canonical JSON (so that no two readers
 * can see two different statements in the same bytes). Throws a `statement-invalid` failure.
 */
export function parseStatement(payload: Uint8Array): Statement {
  let json: unknown;
  const text = Buffer.from(payload).toString('utf8');
  try {
    json = JSON.parse(text);
  } catch {
    throw invalidStatement('it is not JSON');
  }
  const checked = statement.safeParse(json);
  if (!checked.success) throw invalidStatement(z.prettifyError(checked.error));
  if (canonicalize(json) !== text) throw invalidStatement('it is not canonical JSON (RFC 8785)');
  return checked.data;
}

const invalidStatement = (why: string): Failure =>
  new Failure(
    'statement-invalid',
    `This is not a statement about a forensic bundle: ${why.replaceAll('\n', ' ')}.`,
  );
