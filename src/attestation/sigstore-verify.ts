// Verdict on a forensic bundle's signature, signer, transparency and time. Pure: bytes in, verdict out.
// docs/bundle-format.md; in-toto Statement v1, DSSE, Sigstore bundle v0.3.

import { hash, type KeyObject, X509Certificate } from 'node:crypto';
import { type Bundle, bundleFromJSON } from '@sigstore/bundle';
import { Failure, reasonOf } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import { readSigningKey, sshFingerprint } from './dsse.ts';
import { parseSigstoreBundle, type SigstoreBundle } from './sigstore-bundle.ts';
import { parseStatement, type Statement } from './statement.ts';
import { parseTrustedRoot } from './trusted-root.ts';
import { type ExpectedIdentity, examine, type SigstoreClaims } from './witnesses.ts';

export interface SigstoreVerdict {
  /** What the node stated; null where it cannot be read. Believe it only if `claims.signature` is proven. */
  readonly statement: Statement | null;
  readonly claims: SigstoreClaims;
  /** The earliest time a witness signed (RFC 3339), by a real service or a stand-in. */
  readonly signedTime?: string;
}

/**
 * Appraises a bundle for one archive, offline. `archiveSha256` is lower-case hex; `trustedRoot` a parsed
 * trusted_root.json; `publicKeyPem` the enrolled signing key; `standIns` the labels of stand-in services, to which
 * those that the statement itself admits are added. Throws only for what the relying party brought itself:
 * `trusted-root-invalid`, `signing-key-invalid`.
 */
export function verifySigstoreBundle(given: {
  readonly bundle: unknown;
  readonly archiveSha256: string;
  readonly trustedRoot: unknown;
  readonly publicKeyPem: string | null;
  readonly identity: ExpectedIdentity | null;
  readonly standIns: readonly string[];
  readonly now?: Date;
}): SigstoreVerdict {
  const root = given.trustedRoot === null ? null : parseTrustedRoot(given.trustedRoot);
  const key = given.publicKeyPem === null ? null : readSigningKey(given.publicKeyPem);
  let json: SigstoreBundle;
  let statement: Statement;
  let bundle: Bundle;
  try {
    json = parseSigstoreBundle(given.bundle);
    bundle = bundleFromJSON(json);
    statement = parseStatement(Buffer.from(json.dsseEnvelope.payload, 'base64'));
  } catch (thrown) {
    return { statement: null, claims: unreadable(reasonOf(thrown)) };
  }
  const standIns = [...given.standIns, ...statement.predicate.assurance.standIns];
  const now = given.now === undefined ? {} : { now: given.now };
  const { claims, signedTime } = examine({ bundle, root, key, identity: given.identity, standIns, ...now });
  const wrong = wrongSubject(statement, given.archiveSha256) ?? wrongKeyName(json, key);
  return {
    statement,
    claims: wrong === null ? claims : { ...claims, signature: { result: 'failed', detail: wrong } },
    ...(signedTime === undefined ? {} : { signedTime: signedTime.toISOString() }),
  };
}

function unreadable(detail: string): SigstoreClaims {
  const unread = { result: 'not-proven', detail: 'the bundle cannot be read' } as const;
  return {
    signature: { result: 'failed', detail },
    'signer identity': unread,
    transparency: unread,
    time: unread,
  };
}

function wrongSubject(statement: Statement, archiveSha256: string): string | null {
  return statement.subject[0].digest.sha256 === archiveSha256
    ? null
    : 'the statement is about another archive';
}

/** The name of a key is not signed, so it must at least be the name of the key that did sign. */
function wrongKeyName(json: SigstoreBundle, key: KeyObject | null): string | null {
  if (key === null) return null;
  const material = json.verificationMaterial;
  const names = [
    json.dsseEnvelope.signatures[0].keyid,
    ...('publicKey' in material ? [material.publicKey.hint] : []),
  ];
  return names.every((name) => name === sshFingerprint(key))
    ? null
    : 'the bundle names another key than the enrolled one';
}

const anyStatement = z.object({
  subject: z.array(z.object({ digest: z.record(z.string(), z.string()) })).min(1),
});

/**
 * Verifies any Sigstore bundle (v0.1 to v0.3, message signature or DSSE) over an artifact by the same examination:
 * signature, log entry and time must all be proven, and the signer's identity unless the key is given. Returns the
 * claims, or throws a `bundle-rejected` failure that names those which are not proven, the failed ones first.
 */
export function verifyArtifactBundle(given: {
  readonly bundle: unknown;
  readonly artifact: Uint8Array;
  readonly trustedRoot: unknown;
  readonly publicKey: KeyObject | null;
  readonly identity: ExpectedIdentity | null;
  readonly now?: Date;
}): SigstoreClaims {
  const artifact = Buffer.from(given.artifact);
  const bundle = readAnyBundle(given.bundle, artifact);
  const { claims } = examine({
    bundle,
    artifact,
    root: parseTrustedRoot(given.trustedRoot),
    key: given.publicKey,
    identity: given.identity,
    standIns: [],
    ...(given.now === undefined ? {} : { now: given.now }),
  });
  const bareKey = bundle.verificationMaterial.content.$case === 'publicKey' && given.publicKey !== null;
  const lacking = Object.entries(claims)
    .filter(([claim, { result }]) => result !== 'proven' && !(claim === 'signer identity' && bareKey))
    .toSorted(([, a], [, b]) => a.result.localeCompare(b.result))
    .map(([claim, { result, detail }]) => `${claim} ${result}: ${detail}`);
  if (lacking.length > 0) throw rejected(lacking.join('; '));
  return claims;
}

function readAnyBundle(json: unknown, artifact: Buffer): Bundle {
  try {
    const bundle = bundleFromJSON(json);
    if (bundle.content.$case === 'dsseEnvelope') {
      const { subject } = anyStatement.parse(
        JSON.parse(bundle.content.dsseEnvelope.payload.toString('utf8')),
      );
      if (!subject.some(({ digest }) => isOf(artifact, digest)))
        throw new Error('it is about another artifact');
    }
    const { content } = bundle.verificationMaterial;
    const chain = content.$case === 'x509CertificateChain' ? content.x509CertificateChain.certificates : [];
    if (chain.some(({ rawBytes }) => isRoot(rawBytes)))
      throw new Error('it carries its own root certificate');
    return bundle;
  } catch (thrown) {
    throw rejected(reasonOf(thrown));
  }
}

/** By each of the two digests that it has; npm's attestations have SHA-512 alone. */
function isOf(artifact: Buffer, digest: Readonly<Record<string, string>>): boolean {
  const stated = (['sha256', 'sha512'] as const).filter((algorithm) => digest[algorithm] !== undefined);
  return stated.length > 0 && stated.every((algorithm) => hash(algorithm, artifact) === digest[algorithm]);
}

function isRoot(certificate: Buffer): boolean {
  const { subject, issuer } = new X509Certificate(certificate);
  return subject === issuer && subject !== '';
}

const rejected = (why: string): Failure =>
  new Failure('bundle-rejected', `The bundle is rejected: ${why}.`, { status: 3 });
