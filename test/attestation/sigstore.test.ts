// From the node's signature to an offline verdict, through Fulcio, Rekor and a timestamp authority over HTTP.

import { createPublicKey } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { countersign } from '../../src/attestation/countersign.ts';
import {
  fulcioChallenge,
  preAuthEncoding,
  readSigningKey,
  sshFingerprint,
} from '../../src/attestation/dsse.ts';
import { publicGoodRoot } from '../../src/attestation/public-good-root.ts';
import type { SigstoreBundle } from '../../src/attestation/sigstore-bundle.ts';
import { type SigstoreVerdict, verifySigstoreBundle } from '../../src/attestation/sigstore-verify.ts';
import { makeStatement, parseStatement } from '../../src/attestation/statement.ts';
import { type LocalSigstore, startSigstore } from '../lab/sigstore.ts';
import { archiveSha256, predicate, signedArchive, subject } from './signed-archive.ts';

const archive = signedArchive();
let lab: LocalSigstore;
let countersigned: SigstoreBundle;

const request = (services: object = {}) => ({
  bundle: archive.pending,
  publicKeyPem: archive.publicKeyPem,
  proofOfPossession: archive.proofOfPossession,
  identityToken: lab.identityToken(subject),
  services: { fulcio: lab.fulcio, rekor: lab.rekor, tsa: lab.tsa, ...services },
  timeoutMilliseconds: 2000,
});

type Given = Partial<Parameters<typeof verifySigstoreBundle>[0]>;
const verify = (given: Given = {}): SigstoreVerdict =>
  verifySigstoreBundle({
    bundle: countersigned,
    archiveSha256,
    trustedRoot: lab.trustedRoot,
    publicKeyPem: archive.publicKeyPem,
    identity: { subject, issuer: lab.issuer },
    standIns: [],
    ...given,
  });
const results = ({ claims }: SigstoreVerdict) =>
  Object.fromEntries(Object.entries(claims).map(([claim, { result }]) => [claim, result]));

beforeAll(async () => {
  lab = await startSigstore();
  countersigned = await countersign({ ...request(), trustedRoot: lab.trustedRoot });
});
afterAll(() => lab.stop());

describe('what the node signs', () => {
  it('is a canonical in-toto statement that reads back as it was stated', () => {
    const text = Buffer.from(archive.statement).toString('utf8');
    expect(text.startsWith('{"_type":"https://in-toto.io/Statement/v1","predicate":{"assurance":{')).toBe(
      true,
    );
    expect(parseStatement(archive.statement).predicate).toEqual(predicate);
  });

  it('is the DSSE pre-authentication encoding of its protocol', () => {
    const encoded = preAuthEncoding('http://example.com/HelloWorld', Buffer.from('hello world'));
    expect(Buffer.from(encoded).toString()).toBe('DSSEv1 29 http://example.com/HelloWorld 11 hello world');
  });

  it('names its key as ssh-keygen and Go verifiers do', () => {
    const key = createPublicKey(`-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1fwkS/0w0AVRT7Ug+no9FDoB9Zn5
u50voJiPkwo71KY1CmLrIJ+z0ffrqxBdIBwzk/acoSZxO1/dPvs/tTFwyw==
-----END PUBLIC KEY-----`);
    expect(sshFingerprint(key)).toBe('SHA256:WMGSRel8Caq6VC42vzyWfgzKCzVQdvoQh+ZiTO0E2G0');
    const [signature] = archive.pending.dsseEnvelope.signatures;
    expect(signature.keyid).toBe(sshFingerprint(readSigningKey(archive.publicKeyPem)));
    expect(archive.pending.verificationMaterial).toMatchObject({ publicKey: { hint: signature.keyid } });
  });

  it('is never a challenge that could be taken for a statement', () => {
    expect(() => fulcioChallenge('DSSEv1 28 application/vnd.in-toto+json 2 {}')).toThrow('printable ASCII');
    expect(Buffer.from(fulcioChallenge('ops@example.org')).toString()).toBe('ops@example.org');
  });

  it('is refused when a field of the statement is wrong', () => {
    const wrong = { ...predicate, custodyHead: { sequence: 1, hash: 'no digest' } };
    expect(() => makeStatement({ archiveName: 'a', archiveSha256, predicate: wrong })).toThrow('custodyHead');
    expect(() => makeStatement({ archiveName: 'a', archiveSha256: 'AB', predicate })).toThrow('sha256');
  });

  it('must be signed by a key on P-256', () => {
    expect(() => readSigningKey('no key')).toThrow('not a PEM public key');
    const ed25519 =
      '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----';
    expect(() => readSigningKey(ed25519)).toThrow('not an ECDSA key on P-256');
  });
});

describe('a pending bundle', () => {
  it('proves the signature and says of the rest why it is not proven', () => {
    const verdict = verify({ bundle: archive.pending });
    expect(results(verdict)).toEqual({
      signature: 'proven',
      'signer identity': 'not-proven',
      transparency: 'not-proven',
      time: 'not-proven',
    });
    for (const claim of ['signer identity', 'transparency', 'time'] as const) {
      expect(verdict.claims[claim].detail).toContain('pending');
    }
    expect(verdict.statement?.predicate.node).toBe('alpha');
  });

  it('proves nothing to someone who has no enrolment record', () => {
    const verdict = verify({ bundle: archive.pending, publicKeyPem: null });
    expect(new Set(Object.values(results(verdict)))).toEqual(new Set(['not-proven']));
    expect(verdict.claims.signature.detail).toContain('no enrolment record');
  });
});

describe('a countersigned bundle', () => {
  it('proves signature, signer, transparency and time, offline', async () => {
    const verdict = verify();
    expect(results(verdict)).toEqual({
      signature: 'proven',
      'signer identity': 'proven',
      transparency: 'proven',
      time: 'proven',
    });
    expect(Math.abs(Date.parse(verdict.signedTime ?? '') - Date.now())).toBeLessThan(60_000);
  });

  it('carries the very envelope that the node signed', () => {
    expect(countersigned.dsseEnvelope).toEqual(archive.pending.dsseEnvelope);
  });

  it('proves the same with a log of version 2', async () => {
    const bundle = await countersign({ ...request({ rekorVersion: 2 }), trustedRoot: lab.trustedRoot });
    expect(new Set(Object.values(results(verify({ bundle }))))).toEqual(new Set(['proven']));
  });

  it('was not recorded by a log of version 2 whose key had been retired by then', async () => {
    const bundle = await countersign(request({ rekorVersion: 2 }));
    const retired = structuredClone(lab.trustedRoot) as {
      tlogs: { publicKey: { validFor: { start: string; end?: string } } }[];
    };
    for (const { publicKey } of retired.tlogs)
      publicKey.validFor = { start: '2020-01-01T00:00:00Z', end: '2021-01-01T00:00:00Z' };
    expect(verify({ bundle, trustedRoot: retired }).claims).toMatchObject({
      transparency: { result: 'failed', detail: expect.stringContaining('not in use') },
      time: { result: 'proven' },
      signature: { result: 'proven' },
    });
  });

  it('proves who signed even to someone without the enrolment record', () => {
    expect(results(verify({ publicKeyPem: null }))).toMatchObject({
      signature: 'proven',
      'signer identity': 'proven',
    });
    const unnamed = verify({ publicKeyPem: null, identity: null });
    expect(results(unnamed)).toMatchObject({ signature: 'not-proven', 'signer identity': 'not-proven' });
    expect(unnamed.claims['signer identity'].detail).toContain(subject);
  });

  it('is not proven by stand-ins, whether the verifier or the statement names them', async () => {
    const told = verify({ standIns: ['fulcio', 'rekor', 'timestamp authority'] });
    expect(results(told)).toEqual({
      signature: 'proven',
      'signer identity': 'not-proven',
      transparency: 'not-proven',
      time: 'not-proven',
    });
    expect(told.claims['signer identity'].detail).toContain('local stand-in (verified against its root)');

    const assurance = { ...predicate.assurance, standIns: ['rekor'] };
    const honest = signedArchive({ predicate: { ...predicate, assurance } });
    const signedByHonest = { publicKeyPem: honest.publicKeyPem, proofOfPossession: honest.proofOfPossession };
    const bundle = await countersign({ ...request(), bundle: honest.pending, ...signedByHonest });
    const admitted = verify({ bundle, publicKeyPem: honest.publicKeyPem });
    expect(results(admitted)).toMatchObject({ transparency: 'not-proven', time: 'proven' });
  });

  it('is not proven beyond its signature without a trusted root', () => {
    const verdict = verify({ trustedRoot: null });
    expect(results(verdict).signature).toBe('proven');
    for (const claim of ['signer identity', 'transparency', 'time'] as const) {
      expect(verdict.claims[claim]).toEqual({ result: 'not-proven', detail: 'no trusted root given' });
    }
  });

  it('fails under the root of another Sigstore', () => {
    const failed = { 'signer identity': 'failed', transparency: 'failed', time: 'failed' };
    expect(results(verify({ trustedRoot: publicGoodRoot() }))).toEqual({ signature: 'proven', ...failed });
  });

  it('fails when its times lie in the future of the verifier', () => {
    const verdict = verify({ now: new Date(Date.now() - 3_600_000) });
    expect(results(verdict)).toMatchObject({
      transparency: 'failed',
      time: 'failed',
      'signer identity': 'not-proven',
    });
  });

  it('has the time of the log where no timestamp authority was asked', async () => {
    const bundle = await countersign(request({ tsa: undefined }));
    const verdict = verify({ bundle });
    expect(new Set(Object.values(results(verdict)))).toEqual(new Set(['proven']));
    expect(verdict.claims.time.detail).toContain('transparency log signed its time');
    expect(results(verify({ bundle, standIns: ['rekor'] })).time).toBe('not-proven');
  });

  it('waits for nothing more, whichever services were asked', async () => {
    const alone = await Promise.all([
      countersign(request({ fulcio: undefined, rekor: undefined })),
      countersign(request({ fulcio: undefined, tsa: undefined })),
      countersign(request({ rekor: undefined, tsa: undefined })),
    ]);
    for (const bundle of alone) {
      const { claims } = verify({ bundle });
      expect(Object.values(claims).map(({ result }) => result)).toContain('not-proven');
      expect(JSON.stringify(claims)).not.toContain('pending');
    }
  });

  it('does not prove its signer where nobody signed a time', async () => {
    const bundle = await countersign(request({ tsa: undefined, rekor: undefined }));
    expect(verify({ bundle }).claims['signer identity'].detail).toContain('no trusted time');
    expect(results(verify({ bundle, trustedRoot: publicGoodRoot() }))['signer identity']).toBe('failed');
  });
});

describe('the expected signer', () => {
  const identity = (pattern: string | RegExp, issuer = lab.issuer) =>
    results(verify({ identity: { subject: pattern, issuer } }))['signer identity'];

  it('must be the whole name: neither a part of it nor a pattern that happens to fit', () => {
    expect(identity('https://example.org/nodes/alph')).toBe('failed');
    expect(identity('https://example.org/nodes/alpha/')).toBe('failed');
    expect(identity('https://example.org/nodes/.*')).toBe('failed');
    expect(identity('https://example.org.nodes/alpha')).toBe('failed');
  });

  it('may be a pattern, which must match the whole name', () => {
    expect(identity(/https:\/\/example\.org\/nodes\/(alpha|beta)/)).toBe('proven');
    expect(identity(/nodes/)).toBe('failed');
    expect(identity(/^https:\/\/evil|alph$/gm)).toBe('failed');
  });

  it('must be vouched for by the expected issuer', () => {
    expect(identity(subject, 'https://accounts.example.org')).toBe('failed');
  });
});
