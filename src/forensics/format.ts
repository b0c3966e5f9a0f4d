// The forensic bundle, format 1: file names, manifest and the predicate that the signed statement carries
// (docs/bundle-format.md; in-toto Statement v1).
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import { type ExitStatus, exitStatus, Failure } from '../host/failure.ts';
import { z } from '../host/zod.ts';

export const bundleFormat = 'esoteric-appliance-bundle/1';
export const predicateType = 'urn:esoteric-appliance:forensic-bundle:1';
export const manifestPath = 'manifest.json';
export const certificatePath = 'evidence/zeroize-certificate.json';
export const pastCertificatesPath = 'evidence/zeroize-certificates.jsonl';
export const custodyPath = 'custody/custody.jsonl';
/** In the Journal Export Format. */
export const journalPath = 'journal/entries.export';
const recordsFolder = 'redaction/';
/** Where the redactions of a member are recorded, one JSON object a line. */
export const recordsPath = (path: string): string => `${recordsFolder}${path}.jsonl`;
export const isRecordsPath = (path: string): boolean => path.startsWith(recordsFolder);
/** The event that a node appends to its custody log, with `{ sequence, reason, severity }`, before it collects the bundle of that number. */
export const bundleBegun = 'bundle-begun';
/** With `{ sequence, sha256 }`, when it lies ready. */
export const bundleMade = 'bundle-made';
/**
 * With `{ sequence, why }`: it was not made; with `{ sequence, sha256, cause, delivered }`: the node keeps it no longer. Where
 * `delivered` is true, it lies elsewhere and is given up there by nobody.
 */
export const bundleGivenUp = 'bundle-given-up';
/** With `{ from, to }`: numbers that were counted, and under which nothing was begun. */
export const numbersSkipped = 'bundle-numbers-skipped';

const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 in lower-case hex');
const count = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);

/** At most 99 bytes, so that it fits the name field of ustar; portable ASCII; no hidden, absolute or `..` part. */
const memberPathPattern = /^(?!.{100})[A-Za-z0-9_][A-Za-z0-9_.@-]*(?:\/[A-Za-z0-9_][A-Za-z0-9_.@-]*)*$/;
export const isMemberPath = (path: string): boolean => memberPathPattern.test(path);

export const assuranceSchema = z.looseObject({
  tpm: z.enum(['hardware', 'simulator', 'bypassed']),
  sigstore: z.enum(['on', 'pending', 'bypassed']),
  standIns: z.array(z.string()),
  notes: z.array(z.string()),
});
export type Assurance = z.infer<typeof assuranceSchema>;

const fileSchema = z.looseObject({
  path: z.string().regex(memberPathPattern),
  /** Bytes in the archive. */
  size: count,
  sha256: sha256Hex,
  /** What was read and why. */
  source: z.string(),
  redactions: z.array(z.looseObject({ rule: z.string(), count })),
  /** Where the redactor recorded what it replaced. */
  redactionRecords: z.string().regex(memberPathPattern).optional(),
  /** How many planted secrets became pseudonyms before and behind what is in here; where the member is redacted. */
  canaries: count.optional(),
  /** Why the file is not all there is. */
  error: z.string().optional(),
});
export type ManifestFile = z.infer<typeof fileSchema>;

const collectorSchema = z.looseObject({
  name: z.string(),
  status: z.enum(['ok', 'failed', 'truncated', 'empty']),
  detail: z.string(),
  /** Absent in earlier bundles; the order of the collectors is the one in which they were begun. */
  volatility: z.string().optional(),
  /** RFC 3339: when it was begun. */
  started: z.string().optional(),
});
export type CollectorOutcome = z.infer<typeof collectorSchema>;

export const manifestSchema = z.looseObject({
  format: z.literal(bundleFormat),
  node: z.string().min(1),
  /** From the TPM's NV counter, or the state directory where there is no TPM. */
  sequence: count,
  /** RFC 3339, UTC. */
  created: z.string(),
  reason: z.string(),
  /** Who asked for it: `hand`, `zeroize`, `observed`, `alert`, `timer`; absent in earlier bundles. */
  trigger: z.string().optional(),
  assurance: assuranceSchema,
  files: z.array(fileSchema),
  collectors: z.array(collectorSchema),
  /** Which case key the pseudonyms are made under (`caseKeyId`); null where nothing was redacted. */
  redaction: z.looseObject({ keyId: sha256Hex }).nullable(),
  case: z.string().optional(),
  examiner: z.string().optional(),
});
export type Manifest = z.infer<typeof manifestSchema>;

const signedAttest = z.looseObject({ attest: z.base64(), signature: z.base64() });

/** What came of one kind of attestation of the node's program. */
const attested = z.looseObject({
  result: z.enum(['verified', 'absent', 'failed']),
  detail: z.string(),
  by: z.string().optional(),
  standIns: z.boolean().optional(),
});

const programSchema = z.looseObject({
  version: z.string(),
  /** Of the package that it was installed from; null where that is not known. */
  digest: z.looseObject({ sha256: sha256Hex }).nullable(),
  changed: z.array(z.string()),
  provenance: attested,
  sbom: attested,
});
export type StatedProgram = z.infer<typeof programSchema>;

/** What the signed statement says about the archive. Base64 fields hold TPM wire structures. */
export const predicateSchema = z.looseObject({
  node: z.string(),
  sequence: count,
  created: z.string(),
  reason: z.string(),
  assurance: assuranceSchema,
  manifestDigest: z.looseObject({ sha256: sha256Hex }),
  quote: z
    .looseObject({
      attest: z.base64(),
      signature: z.base64(),
      pcrs: z.looseObject({ bank: z.literal('sha256'), values: z.record(z.string(), z.string()) }),
    })
    .nullable(),
  eventLog: z.looseObject({ path: z.string(), sha256: sha256Hex }).nullable(),
  clock: z
    .looseObject({ clock: z.string(), resetCount: count, restartCount: count, safe: z.boolean() })
    .nullable(),
  signingKeyCertification: signedAttest.nullable(),
  /** Of both counters, over the archive's SHA-256, and of the custody head, over the hash of its last record. */
  nv: z
    .looseObject({ sequence: signedAttest, armed: signedAttest, custody: signedAttest })
    .nullable()
    .optional(),
  custodyHead: z.looseObject({ sequence: count, hash: sha256Hex }),
  /** As the node verified it when its program started; absent in earlier bundles. */
  program: programSchema.optional(),
});
export type BundlePredicate = z.infer<typeof predicateSchema>;

export const statementSchema = z.looseObject({
  subject: z
    .array(z.looseObject({ name: z.string(), digest: z.looseObject({ sha256: sha256Hex }) }))
    .length(1),
  predicateType: z.literal(predicateType),
  predicate: predicateSchema,
});

/** The manifest as it stands in the archive: RFC 8785, one line. @throws Failure `manifest-invalid`. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const checked = manifestSchema.safeParse(manifest);
  if (!checked.success) throw manifestInvalid(z.prettifyError(checked.error));
  return Buffer.from(`${canonicalize(checked.data)}\n`);
}

/** @throws Failure `manifest-invalid` for anything but the canonical form of a manifest. */
export function decodeManifest(bytes: Uint8Array): Manifest {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch {
    throw undecodable('it is not JSON in UTF-8');
  }
  const format = formatOf(value);
  if (format !== undefined && format !== bundleFormat) {
    throw undecodable(`its format is ${JSON.stringify(format)}, and only ${bundleFormat} is known here`);
  }
  const checked = manifestSchema.safeParse(value);
  if (!checked.success) throw undecodable(z.prettifyError(checked.error));
  if (`${canonicalize(value)}\n` !== text) throw undecodable('it is not in canonical form (RFC 8785)');
  return checked.data;
}

/** What a later version may have made, told apart from what is none. */
const formatOf = (value: unknown): string | undefined =>
  z.object({ format: z.string().max(100) }).safeParse(value).data?.format;

/** Bad evidence. */
const undecodable = (reason: string): Failure => manifestInvalid(reason, exitStatus.rejected);

function manifestInvalid(reason: string, status: ExitStatus = exitStatus.failed): Failure {
  return new Failure(
    'manifest-invalid',
    `The manifest of the bundle is not valid: ${reason.replaceAll('\n', ' ')}.`,
    { status },
  );
}

/** `alpha-000007-20261120T163000Z.tar.gz`; `created` is RFC 3339 in UTC. */
export function archiveName(node: string, sequence: number, created: string): string {
  const utc = created.replace(/\.\d+Z$/, 'Z').replaceAll(/[-:]/g, '');
  const name = `${node}-${String(sequence).padStart(6, '0')}-${utc}.tar.gz`;
  if (/^[a-z0-9][a-z0-9.-]*-\d{6,}-\d{8}T\d{6}Z\.tar\.gz$/i.test(name)) return name;
  throw new Failure('bundle-name-invalid', `A bundle cannot be named ${JSON.stringify(name)}.`, {
    remedy: 'Give the node a name of letters, digits and hyphens.',
  });
}

/** Bytes of a signature file that are read; those of a node have some ten thousand. */
export const largestStatement = 4 << 20;

/** The second of the two files, beside the archive. An encrypted archive has that of the archive in it. */
export const sigstoreName = (archive: string): string => `${archive.replace(/\.age$/, '')}.sigstore.json`;

export const sha256 = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('hex');
