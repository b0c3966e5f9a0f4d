// Whatever is changed in a countersigned bundle, some claim fails.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseEvidenceJson } from '../../src/appliance/verify.ts';
import { countersign } from '../../src/attestation/countersign.ts';
import { preAuthEncoding } from '../../src/attestation/dsse.ts';
import { parseSigstoreBundle, type SigstoreBundle } from '../../src/attestation/sigstore-bundle.ts';
import { type SigstoreVerdict, verifySigstoreBundle } from '../../src/attestation/sigstore-verify.ts';
import { statementPayloadType } from '../../src/attestation/statement.ts';
import { type LocalSigstore, startSigstore } from '../lab/sigstore.ts';
import { type DerField, derFields } from './der-fields.ts';
import { archiveSha256, type SignedArchive, signedArchive, subject } from './signed-archive.ts';

const archive = signedArchive();
let lab: LocalSigstore;
let genuine: SigstoreBundle;

const countersignedBy = (signer: SignedArchive) =>
  countersign({
    bundle: signer.pending,
    publicKeyPem: signer.publicKeyPem,
    proofOfPossession: signer.proofOfPossession,
    identityToken: lab.identityToken(subject),
    services: lab,
    timeoutMilliseconds: 2000,
  });

const verify = (bundle: unknown): SigstoreVerdict =>
  verifySigstoreBundle({
    bundle,
    archiveSha256,
    trustedRoot: lab.trustedRoot,
    publicKeyPem: archive.publicKeyPem,
    identity: { subject, issuer: lab.issuer },
    standIns: [],
  });

/** The bundle with the value at a path (as in `dsseEnvelope.payload`) replaced, its envelope and entries being as they were. */
function changed(path: string, change: (value: string) => unknown): unknown {
  const bundle: unknown = structuredClone(genuine);
  const names = path.split('.');
  const last = names.pop() ?? '';
  let holder: unknown = bundle;
  for (const name of names) holder = Reflect.get(Object(holder), name);
  const before: unknown = Reflect.get(Object(holder), last);
  if (typeof before !== 'string') throw new Error(`nothing at ${path}`);
  Reflect.set(Object(holder), last, change(before));
  return bundle;
}

/** Flips a bit of the byte at a place between 0 (first) and 1 (last) of base64 data. */
const flipped = (where: number) => (base64: string) => {
  const bytes = Buffer.from(base64, 'base64');
  const at = Math.floor(where * (bytes.length - 1));
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes.toString('base64');
};

const anyFailed = ({ claims }: SigstoreVerdict) =>
  Object.values(claims).some(({ result }) => result === 'failed');

beforeAll(async () => {
  lab = await startSigstore();
  genuine = await countersignedBy(archive);
  expect(anyFailed(verify(genuine))).toBe(false);
});
afterAll(() => lab.stop());

const material = 'verificationMaterial';
const forgeries: [
  what: string,
  claim: keyof SigstoreVerdict['claims'],
  path: string,
  change: (value: string) => unknown,
][] = [
  ['the payload', 'signature', 'dsseEnvelope.payload', flipped(0.9)],
  ['the signature', 'signature', 'dsseEnvelope.signatures.0.sig', flipped(0.9)],
  ['the payload type', 'signature', 'dsseEnvelope.payloadType', () => 'text/plain'],
  ['the key’s name', 'signature', 'dsseEnvelope.signatures.0.keyid', () => 'SHA256:another'],
  ['the media type', 'signature', 'mediaType', () => 'application/vnd.dev.sigstore.bundle.v0.4+json'],
  ['the base64 of the payload', 'signature', 'dsseEnvelope.payload', (text) => `${text}\n`],
  ['the certificate’s beginning', 'signature', `${material}.certificate.rawBytes`, flipped(0)],
  ['the certificate’s signature', 'signer identity', `${material}.certificate.rawBytes`, flipped(1)],
  ['the log entry’s body', 'transparency', `${material}.tlogEntries.0.canonicalizedBody`, flipped(0.5)],
  ['the log entry’s index', 'transparency', `${material}.tlogEntries.0.logIndex`, () => '5'],
  ['the log’s time', 'transparency', `${material}.tlogEntries.0.integratedTime`, () => '1700000000'],
  ['the log’s name', 'transparency', `${material}.tlogEntries.0.logId.keyId`, flipped(0)],
  [
    'the signed entry timestamp',
    'transparency',
    `${material}.tlogEntries.0.inclusionPromise.signedEntryTimestamp`,
    flipped(0.9),
  ],
  [
    'the checkpoint',
    'transparency',
    `${material}.tlogEntries.0.inclusionProof.checkpoint.envelope`,
    (text) => text.replace('Timestamp: 1', 'Timestamp: 2'),
  ],
  ['the proof’s root hash', 'signature', `${material}.tlogEntries.0.inclusionProof.rootHash`, flipped(0.5)],
  [
    'the timestamp’s signature',
    'time',
    `${material}.timestampVerificationData.rfc3161Timestamps.0.signedTimestamp`,
    flipped(1),
  ],
  [
    'the timestamp’s content',
    'time',
    `${material}.timestampVerificationData.rfc3161Timestamps.0.signedTimestamp`,
    flipped(0.2),
  ],
  [
    'the timestamp, for bytes that are none',
    'time',
    `${material}.timestampVerificationData.rfc3161Timestamps.0.signedTimestamp`,
    () => 'AAAA',
  ],
];

describe('a forged bundle', () => {
  it.each(forgeries)('fails when someone changes %s (%s)', (_what, claim, path, change) => {
    expect(verify(changed(path, change)).claims[claim].result).toBe('failed');
  });

  it('fails when a witness’s part of another bundle is put into it', async () => {
    const other = signedArchive();
    const theirs = await countersignedBy(other);
    const { tlogEntries, timestampVerificationData } = theirs.verificationMaterial;
    const withMaterial = (part: object) => ({
      ...genuine,
      verificationMaterial: { ...genuine.verificationMaterial, ...part },
    });
    expect(verify(withMaterial({ tlogEntries })).claims.transparency.result).toBe('failed');
    expect(verify(withMaterial({ timestampVerificationData })).claims.time.result).toBe('failed');
    const swapped = verify({ ...theirs, dsseEnvelope: genuine.dsseEnvelope }).claims;
    expect(swapped.signature.detail).toContain('another key');
    expect(swapped['signer identity'].result).toBe('failed');
    expect(verify(theirs).claims.signature.result).toBe('failed');
  });

  it('fails when the same log entry or timestamp is counted twice', () => {
    const { tlogEntries = [], timestampVerificationData } = genuine.verificationMaterial;
    const stamps = timestampVerificationData?.rfc3161Timestamps ?? [];
    const twice = (part: object) =>
      verify({ ...genuine, verificationMaterial: { ...genuine.verificationMaterial, ...part } });
    expect(twice({ tlogEntries: [...tlogEntries, ...tlogEntries] }).claims.transparency.detail).toContain(
      'duplicate',
    );
    const doubled = { timestampVerificationData: { rfc3161Timestamps: [...stamps, ...stamps] } };
    expect(twice(doubled).claims.time.detail).toContain('duplicate');
  });

  it('fails for another archive', () => {
    const verdict = verifySigstoreBundle({
      bundle: genuine,
      archiveSha256: 'ff'.repeat(32),
      trustedRoot: lab.trustedRoot,
      publicKeyPem: archive.publicKeyPem,
      identity: null,
      standIns: [],
    });
    expect(verdict.claims.signature).toEqual({
      result: 'failed',
      detail: 'the statement is about another archive',
    });
  });

  it('fails, and shows no statement, when what was signed is not our statement in canonical form', () => {
    const text = Buffer.from(archive.statement).toString('utf8');
    const statements = [
      'no JSON',
      '{}',
      text.replace('{', '{ '),
      text.replace(
        '"predicateType":"urn:esoteric-appliance:forensic-bundle:1"',
        '"predicateType":"urn:other"',
      ),
      text.replace('{"_type"', '{"_type":"https://in-toto.io/Statement/v1","_type"'),
    ];
    for (const statement of statements) {
      const payload = Buffer.from(statement);
      const sig = Buffer.from(archive.sign(preAuthEncoding(statementPayloadType, payload))).toString(
        'base64',
      );
      const { keyid } = genuine.dsseEnvelope.signatures[0];
      const dsseEnvelope = {
        payload: payload.toString('base64'),
        payloadType: statementPayloadType,
        signatures: [{ sig, keyid }],
      };
      const { statement: shown, claims } = verify({ ...archive.pending, dsseEnvelope });
      expect(shown).toBeNull();
      expect(claims.signature.detail).toContain('not a statement about a forensic bundle');
    }
  });

  it('fails when it has a field that the format does not know', () => {
    expect(() => parseSigstoreBundle({ ...genuine, extra: 1 })).toThrow('not a Sigstore bundle v0.3');
    const { verificationMaterial: material } = genuine;
    const timestampVerificationData = { rfc3161Timestamps: Array(33).fill({ signedTimestamp: 'AAAA' }) };
    const many = { ...genuine, verificationMaterial: { ...material, timestampVerificationData } };
    expect(() => parseSigstoreBundle(many)).toThrow(/<=32 items .*rfc3161Timestamps/);
    expect(anyFailed(verify({ ...genuine, extra: 1 }))).toBe(true);
    for (const nothing of [null, [], 'bundle', 7]) expect(anyFailed(verify(nothing))).toBe(true);
  });
});

/**
 * What of a timestamp (RFC 3161, TimeStampResp, around the SignedData of RFC 5652) its signature does not cover and its verification does
 * not look at: it says what follows, or repeats what is covered. Everything else in there is signed, or compared with what is.
 */
const uncovered: readonly [path: string, part: 'tag' | 'length' | 'content', field: string, why: string][] = [
  ['', 'tag', 'TimeStampResp', 'its elements are taken by their place'],
  ['0', 'tag', 'status', 'only its number is looked at'],
  ['1', 'tag', 'timeStampToken', 'its elements are taken by their place'],
  ['1.1.0.0', 'tag', 'SignedData.version', 'tells of no other reading'],
  ['1.1.0.0', 'content', 'SignedData.version', 'tells of no other reading'],
  ['1.1.0.1', 'tag', 'digestAlgorithms', 'a hint for whoever reads once; SignerInfo tells the algorithm'],
  ['1.1.0.1.0', 'tag', 'digestAlgorithms[0]', 'as above'],
  ['1.1.0.1.0.0', 'tag', 'digestAlgorithms[0].algorithm', 'as above'],
  ['1.1.0.1.0.0', 'content', 'digestAlgorithms[0].algorithm', 'as above'],
  ['1.1.0.1.0.1', 'tag', 'digestAlgorithms[0].parameters', 'as above'],
  ['1.1.0.2', 'tag', 'encapContentInfo', 'its elements are taken by their place; the content is signed'],
  ['1.1.0.3', 'tag', 'certificates', 'none are in there: the certificate is that of the trusted root'],
  ['1.1.0.4.0', 'tag', 'SignerInfo', 'its elements are taken by their place'],
  ['1.1.0.4.0.0', 'content', 'SignerInfo.version', 'tells of no other reading'],
  ['1.1.0.4.0.1', 'tag', 'sid', 'issuer and serial in it are compared with the certificate'],
  ['1.1.0.4.0.1.0', 'tag', 'sid.issuer', 'its content is compared with the certificate'],
  ['1.1.0.4.0.2', 'tag', 'digestAlgorithm', 'the algorithm in it is used'],
  ['1.1.0.4.0.4', 'tag', 'signatureAlgorithm', 'the certificate’s key tells how to verify'],
  ['1.1.0.4.0.4.0', 'content', 'signatureAlgorithm.algorithm', 'as above'],
  ['1.1.0.4.0.5', 'tag', 'signature', 'its content is what is verified'],
];

describe('the signature file of a countersigned bundle', () => {
  const fileOf = (bundle: unknown): Buffer => Buffer.from(JSON.stringify(bundle));
  const appraise = (file: Buffer) => verify(parseEvidenceJson(file.toString('utf8')));
  const stampOf = ({ verificationMaterial: { timestampVerificationData } }: SigstoreBundle): string =>
    timestampVerificationData?.rfc3161Timestamps?.[0]?.signedTimestamp ?? '';

  /** The field that a byte of the timestamp belongs to, and which part of it. */
  function placeOf(fields: readonly DerField[], at: number): string {
    const { path, tag, content } = fields.findLast((field) => field.tag <= at && at < field.end) ?? {
      path: 'none',
      tag: 0,
      content: 0,
    };
    return `${path} ${at === tag ? 'tag' : at < content ? 'length' : 'content'}`;
  }
  const listed = new Set(uncovered.map(([path, part]) => `${path} ${part}`));

  // Each takes 15 ms: a minute and a half for all of them.
  const step = process.env.ESOTERIC_LONG === undefined ? 31 : 1;
  it(`is rejected with any byte changed but those of a timestamp's fields that nothing covers (${step === 1 ? 'every byte' : `every ${step}st`})`, () => {
    const file = fileOf(genuine);
    const before = verify(genuine);
    const stamp = stampOf(genuine);
    const der = Buffer.from(stamp, 'base64');
    const fields = [...derFields(der)];
    const begin = file.indexOf(stamp);
    const unexplained: string[] = [];
    for (let at = 0; at < file.length; at += step) {
      const changed = Buffer.from(file);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const after = appraise(changed);
      if (anyFailed(after)) continue;
      expect(after, `the byte at ${at} says something`).toEqual(before);
      const isIn = at >= begin && at < begin + stamp.length;
      const other = Buffer.from(changed.toString('latin1', begin, begin + stamp.length), 'base64');
      const places = isIn
        ? [...der.keys()].filter((each) => der[each] !== other[each]).map((each) => placeOf(fields, each))
        : [`outside the timestamp, at ${at}`];
      unexplained.push(...places.filter((place) => !listed.has(place)));
    }
    expect([...new Set(unexplained)]).toEqual([]);
  }, 600_000);

  it.each(uncovered)('may have another %s %s of its timestamp (%s: %s)', (path, part) => {
    const before = verify(genuine);
    const der = Buffer.from(stampOf(genuine), 'base64');
    const fields = [...derFields(der)];
    const passes = [...der.keys()]
      .filter((at) => placeOf(fields, at) === `${path} ${part}`)
      .flatMap((at) => [0, 1, 2, 3, 4, 5, 6, 7].map((bit) => ({ at, bit })))
      .map(({ at, bit }) => {
        const changed = Buffer.from(der);
        changed[at] = (changed[at] ?? 0) ^ (1 << bit);
        const text = fileOf(genuine).toString().replace(stampOf(genuine), changed.toString('base64'));
        return verify(JSON.parse(text));
      })
      .filter((verdict) => !anyFailed(verdict));
    expect(passes.length).toBeGreaterThan(0);
    for (const verdict of passes) expect(verdict).toEqual(before);
  });
});

describe('a trusted root', () => {
  it('is refused as wrong usage when it is none', () => {
    for (const trustedRoot of [{}, 7, 'root', { tlogs: [{}] }]) {
      const given = {
        bundle: genuine,
        archiveSha256,
        trustedRoot,
        publicKeyPem: null,
        identity: null,
        standIns: [],
      };
      expect(() => verifySigstoreBundle(given)).toThrow('not a trusted_root.json');
    }
  });
});
