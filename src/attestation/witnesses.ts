// What the signer and the witnesses of a Sigstore bundle prove, claim by claim. Pure: no clock, network or file.
// Sigstore client specification, "Verification" (https://github.com/sigstore/architecture-docs/blob/main/client-spec.md).

import { type KeyObject, X509Certificate } from 'node:crypto';
import type { Bundle, TransparencyLogEntry } from '@sigstore/bundle';
import type { TrustedRoot } from '@sigstore/protobuf-specs';
import {
  PolicyError,
  toSignedEntity,
  VerificationError,
  type VerificationPolicy,
  Verifier,
} from '@sigstore/verify';
import { reasonOf } from '../host/failure.ts';
import { outOfUse, trustMaterial } from './trusted-root.ts';
import type { Appraisal } from './verdict.ts';

export interface SigstoreClaims {
  readonly signature: Appraisal;
  readonly 'signer identity': Appraisal;
  readonly transparency: Appraisal;
  readonly time: Appraisal;
}

/** Who must have signed: the certificate's subject alternative name, matched whole, and the issuer of the identity. */
export interface ExpectedIdentity {
  readonly subject: string | RegExp;
  readonly issuer: string;
}

export interface Examination {
  readonly bundle: Bundle;
  /** What was signed, where the bundle carries only a digest of it. */
  readonly artifact?: Buffer;
  readonly root: TrustedRoot | null;
  /** The key known beforehand (from enrolment). */
  readonly key: KeyObject | null;
  readonly identity: ExpectedIdentity | null;
  /** Services that are local stand-ins: what they say is checked, and still proves nothing. */
  readonly standIns: readonly string[];
  /** Where given, a signed time more than five minutes after it is refused. */
  readonly now?: Date;
}

export interface Examined {
  readonly claims: SigstoreClaims;
  /** The earliest time that a witness signed. */
  readonly signedTime?: Date;
}

const proven = (detail: string): Appraisal => ({ result: 'proven', detail });
const failed = (detail: string): Appraisal => ({ result: 'failed', detail });
const notProven = (detail: string): Appraisal => ({ result: 'not-proven', detail });

/** Appraises each claim by itself, so that one wrong witness does not hide what the others prove. */
export function examine(x: Examination): Examined {
  const certificate = leafCertificate(x.bundle);
  const key = x.key ?? certificate?.key ?? null;
  if (key === null) return { claims: claimsWithoutKey(certificate) };

  const stamps = appraiseTimestamps(x, key);
  const transparency = appraiseTransparency(x, key, stamps.times);
  const times = [...stamps.times, ...transparency.times];
  const identity = appraiseIdentity(x, key, certificate, {
    entries: transparency.appraisal.result === 'failed' ? [] : x.bundle.verificationMaterial.tlogEntries,
    stamps: stamps.times.length === 0 ? [] : timestampsOf(x.bundle),
    timed: times.length > 0,
  });
  const earliest = times.toSorted((a, b) => a.getTime() - b.getTime())[0];
  return {
    claims: {
      signature: appraiseSignature(x, key, certificate, identity),
      'signer identity': standIn(x, 'fulcio', 'certificate authority', identity),
      transparency: standIn(x, 'rekor', 'transparency log', transparency.appraisal),
      time: appraiseTime(x, stamps.appraisal, transparency.times),
    },
    ...(earliest === undefined ? {} : { signedTime: earliest }),
  };
}

function claimsWithoutKey(certificate: Leaf | null | undefined): SigstoreClaims {
  const unknown = notProven(
    'no key is known that could have signed this: no enrolment record and no certificate',
  );
  const identity = certificate === undefined ? failed('the certificate cannot be read') : unknown;
  return { signature: unknown, 'signer identity': identity, transparency: unknown, time: unknown };
}

function appraiseSignature(
  x: Examination,
  key: KeyObject,
  certificate: Leaf | null | undefined,
  identity: Appraisal,
): Appraisal {
  if (certificate === undefined) return failed('the certificate cannot be read');
  if (x.key !== null && certificate !== null && !certificate.key.equals(x.key)) {
    return failed('the certificate is for another key than the enrolled one');
  }
  const wrong = refusal(() => verify(x, key, {}, {}));
  if (wrong !== null) return failed(wrong);
  if (x.key !== null) return proven('signed by the enrolled key');
  if (identity.result === 'proven') return proven('signed by the key in the signer’s certificate');
  return notProven(
    'signed by the key in the certificate, which proves nothing while the signer’s identity is not proven',
  );
}

function appraiseTransparency(
  x: Examination,
  key: KeyObject,
  stamped: readonly Date[],
): { appraisal: Appraisal; times: Date[] } {
  const entries: TransparencyLogEntry[] = x.bundle.verificationMaterial.tlogEntries;
  const nothing = (appraisal: Appraisal) => ({ appraisal, times: [] });
  if (entries.length === 0)
    return nothing(notProven(`no transparency log has recorded this bundle${pending(x)}`));
  if (x.root === null) return nothing(notProven('no trusted root given'));

  const wrong = refusal(() => verify(x, key, { entries }, { tlogThreshold: entries.length }));
  if (wrong !== null) return nothing(failed(wrong));
  const times = entries.filter(({ inclusionPromise }) => inclusionPromise !== undefined).map(integratedTime);
  if (times.some((time) => isFuture(x, time))) return nothing(failed('the log entry lies in the future'));
  if (outOfUse(x.root, entries, stamped))
    return nothing(failed('the key of the log was not in use when this was timestamped'));
  const indexes = entries.map(({ logIndex }) => logIndex).join(', ');
  return { appraisal: proven(`recorded in the transparency log at index ${indexes}`), times };
}

function appraiseTimestamps(x: Examination, key: KeyObject): { appraisal: Appraisal; times: Date[] } {
  const stamps = timestampsOf(x.bundle);
  const nothing = (appraisal: Appraisal) => ({ appraisal, times: [] });
  if (stamps.length === 0) return nothing(notProven(`no timestamp authority has signed a time${pending(x)}`));
  if (x.root === null) return nothing(notProven('no trusted root given'));

  const wrong = refusal(() => verify(x, key, { stamps }, { timestampThreshold: stamps.length }));
  if (wrong !== null) return nothing(failed(wrong));
  const times = toSignedEntity(only(x.bundle, { stamps }), x.artifact).timestamps.flatMap((stamp) =>
    stamp.$case === 'timestamp-authority' ? [stamp.timestamp.signingTime] : [],
  );
  const latest = times.find((time) => isFuture(x, time));
  if (latest !== undefined)
    return nothing(failed(`the timestamp ${latest.toISOString()} lies in the future`));
  return { appraisal: proven(`timestamped ${times.map((time) => time.toISOString()).join(', ')}`), times };
}

/** RFC 3161 where there is a timestamp, else the time in the log's signed entry timestamp. */
function appraiseTime(x: Examination, stamps: Appraisal, logTimes: readonly Date[]): Appraisal {
  const [logTime] = logTimes;
  if (logTime === undefined || timestampsOf(x.bundle).length > 0) {
    return standIn(x, 'timestamp authority', 'timestamp authority', stamps);
  }
  const detail = `the transparency log signed its time of entry, ${logTime.toISOString()}`;
  return standIn(x, 'rekor', 'transparency log', proven(detail));
}

interface Timing {
  readonly entries: readonly TransparencyLogEntry[];
  readonly stamps: readonly Buffer[];
  readonly timed: boolean;
}

function appraiseIdentity(
  x: Examination,
  key: KeyObject,
  certificate: Leaf | null | undefined,
  timing: Timing,
): Appraisal {
  if (certificate === undefined) return failed('the certificate cannot be read');
  if (certificate === null)
    return notProven(`signed by a bare key: no certificate names a signer${pending(x)}`);
  if (!certificate.key.equals(key)) return failed('the certificate is for another key than the enrolled one');
  if (x.root === null) return notProven('no trusted root given');
  if (!timing.timed) {
    return issuedBy(x.root, certificate.certificate)
      ? notProven('no trusted time shows that the certificate was valid when this was signed')
      : failed('the certificate was not issued by an authority of the trusted root');
  }
  const thresholds = { timestampThreshold: 1, ctlogThreshold: 1 };
  const parts = { ...timing, certificate: true };
  const policy = x.identity === null ? undefined : policyFor(x.identity);
  const wrong = refusal(() => verify(x, key, parts, thresholds, policy));
  if (wrong !== null) return failed(wrong);
  return x.identity === null
    ? notProven(`the certificate names ${certificate.name}, and no expected identity was given`)
    : proven(`${certificate.name}, vouched for by ${x.identity.issuer}`);
}

/** A string in a policy is an unanchored pattern to the library: match the whole name, and only it. */
export function policyFor(identity: ExpectedIdentity): VerificationPolicy {
  const { subject } = identity;
  const pattern =
    typeof subject === 'string' ? subject.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&') : subject.source;
  const flags = typeof subject === 'string' ? '' : subject.flags.replaceAll(/[gmy]/g, '');
  return {
    subjectAlternativeName: new RegExp(`^(?:${pattern})$`, flags),
    extensions: { issuer: identity.issuer },
  };
}

/** Signed by the node alone so far. The courier countersigns once: what is missing after that is not to come. */
function pending({ bundle }: Examination): string {
  const { content, tlogEntries } = bundle.verificationMaterial;
  const bare = content.$case === 'publicKey' && tlogEntries.length === 0 && timestampsOf(bundle).length === 0;
  return bare ? ' (pending)' : '';
}

function standIn(x: Examination, label: string, service: string, appraisal: Appraisal): Appraisal {
  if (appraisal.result !== 'proven' || !x.standIns.includes(label)) return appraisal;
  return notProven(`the ${service} is a local stand-in (verified against its root): ${appraisal.detail}`);
}

interface Parts {
  readonly entries?: readonly TransparencyLogEntry[];
  readonly stamps?: readonly Buffer[];
  readonly certificate?: boolean;
}
type Thresholds = Partial<Record<'tlogThreshold' | 'ctlogThreshold' | 'timestampThreshold', number>>;

/** Runs the library's verifier over some parts of the bundle: always the signature, and those given. */
function verify(
  x: Examination,
  key: KeyObject,
  parts: Parts,
  atLeast: Thresholds,
  policy?: VerificationPolicy,
): void {
  const thresholds = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0, ...atLeast };
  const entity = toSignedEntity(only(x.bundle, parts), x.artifact);
  // The log's own times are claims of the log; a run that asks for none must not depend on them.
  const timestamps = thresholds.timestampThreshold === 0 ? [] : entity.timestamps;
  new Verifier(trustMaterial(x.root, key), thresholds).verify({ ...entity, timestamps }, policy);
}

function only(bundle: Bundle, parts: Parts): Bundle {
  const { content } = bundle.verificationMaterial;
  return {
    ...bundle,
    verificationMaterial: {
      content: parts.certificate ? content : { $case: 'publicKey', publicKey: { hint: '' } },
      tlogEntries: [...(parts.entries ?? [])],
      timestampVerificationData: {
        rfc3161Timestamps: (parts.stamps ?? []).map((signedTimestamp) => ({ signedTimestamp })),
      },
    },
  };
}

const timestampsOf = (bundle: Bundle): Buffer[] =>
  (bundle.verificationMaterial.timestampVerificationData?.rfc3161Timestamps ?? []).map(
    (stamp) => stamp.signedTimestamp,
  );

const integratedTime = (entry: TransparencyLogEntry): Date => new Date(Number(entry.integratedTime) * 1000);

const isFuture = (x: Examination, time: Date): boolean =>
  x.now !== undefined && time.getTime() > x.now.getTime() + 5 * 60_000;

interface Leaf {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
  readonly name: string;
}

/** The signer's certificate; null where there is none, undefined where it cannot be read. */
function leafCertificate(bundle: Bundle): Leaf | null | undefined {
  const { content } = bundle.verificationMaterial;
  if (content.$case === 'publicKey') return null;
  const leaf =
    content.$case === 'certificate' ? content.certificate : content.x509CertificateChain.certificates[0];
  try {
    const certificate = new X509Certificate(leaf?.rawBytes ?? Buffer.alloc(0));
    const name = certificate.subjectAltName?.replace(/^(URI|email):/, '') ?? 'nobody';
    return { certificate, key: certificate.publicKey, name };
  } catch {
    return undefined;
  }
}

function issuedBy(root: TrustedRoot, certificate: X509Certificate): boolean {
  const authorities = root.certificateAuthorities.flatMap(({ certChain }) => certChain?.certificates ?? []);
  try {
    return authorities.some(({ rawBytes }) => certificate.verify(new X509Certificate(rawBytes).publicKey));
  } catch {
    return false;
  }
}

/** Why the library refuses, or null. What it throws by accident on malformed input is a refusal too. */
function refusal(check: () => void): string | null {
  try {
    check();
    return null;
  } catch (thrown) {
    const meant = thrown instanceof VerificationError || thrown instanceof PolicyError;
    return meant ? reasonOf(thrown) : `malformed (${reasonOf(thrown)})`;
  }
}
