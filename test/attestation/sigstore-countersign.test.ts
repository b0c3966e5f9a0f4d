// The courier at Sigstore services that fail, hang, answer nonsense, or are somebody else's.

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type CountersignRequest, countersign } from '../../src/attestation/countersign.ts';
import { asking, CountersignFailure } from '../../src/attestation/countersign-failure.ts';
import { preAuthEncoding } from '../../src/attestation/dsse.ts';
import { preparedSignatures } from '../../src/attestation/fulcio.ts';
import { statementPayloadType } from '../../src/attestation/statement.ts';
import { type LocalSigstore, startSigstore } from '../lab/sigstore.ts';
import { signedArchive, subject } from './signed-archive.ts';

const archive = signedArchive();
const pendingText = JSON.stringify(archive.pending);
let lab: LocalSigstore;

const request = () => ({
  bundle: archive.pending as unknown,
  publicKeyPem: archive.publicKeyPem,
  proofOfPossession: archive.proofOfPossession as typeof archive.proofOfPossession | null,
  identityToken: lab.identityToken(subject) as string | undefined,
  services: { fulcio: lab.fulcio, rekor: lab.rekor, tsa: lab.tsa } as object,
  timeoutMilliseconds: 1000,
});

async function failureOf(
  given: Partial<ReturnType<typeof request>> & {
    trustedRoot?: unknown;
    tokenTerms?: CountersignRequest['tokenTerms'];
  },
) {
  const thrown: unknown = await countersign({ ...request(), ...given }).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(thrown instanceof CountersignFailure))
    throw new Error(`expected a countersign failure, got ${String(thrown)}`);
  expect(thrown.kept).toBe('The bundle stays pending and is retried.');
  expect(JSON.stringify(archive.pending)).toBe(pendingText);
  return thrown;
}

beforeAll(async () => {
  lab = await startSigstore();
});
afterAll(() => lab.stop());

it('no part of the identity token is shown, wherever a long reason is cut', async () => {
  const token = 'e30.'.concat('s3cret'.repeat(40));
  for (let before = 0; before <= 310; before += 10) {
    const ask = () => Promise.reject(new Error(`${'x'.repeat(before)} ${token} was not taken`));
    await expect(asking('fulcio', token, ask)).rejects.toThrow(/^[^3]*$/);
  }
});

const services = [
  ['fulcio', 'fulcio', 'fulcio'],
  ['rekor', 'rekor', 'rekor'],
  ['tsa', 'timestamp authority', 'timestamp-authority'],
] as const;

describe.each(services)('when %s fails', (name, service, code) => {
  it('with a server error, the bundle stays pending and a retry succeeds', async () => {
    lab.failNext(name, 503);
    expect(await failureOf({})).toMatchObject({ service, retryable: true, code: `${code}-unavailable` });
    expect((await countersign(request())).verificationMaterial).toHaveProperty('certificate');
  });

  it('with a refusal, it takes an operator to set it right', async () => {
    lab.failNext(name, 401);
    expect(await failureOf({})).toMatchObject({ service, retryable: false, code: `${code}-refused` });
  });

  it('with too many requests, it is retried', async () => {
    lab.failNext(name, 429);
    expect(await failureOf({})).toMatchObject({ service, retryable: true });
  });

  it('by hanging, the time limit ends it', async () => {
    lab.failNext(name, 'hang');
    const started = performance.now();
    expect(await failureOf({ timeoutMilliseconds: 200 })).toMatchObject({ service, retryable: true });
    expect(performance.now() - started).toBeLessThan(2000);
  });

  it('with nonsense, the nonsense does not get into the bundle', async () => {
    lab.failNext(name, 'garbage');
    expect(await failureOf({})).toMatchObject({ service, retryable: true });
  });

  it('by not being there, the failure names it', async () => {
    const addresses = { fulcio: lab.fulcio, rekor: lab.rekor, tsa: lab.tsa, [name]: 'http://127.0.0.1:1/' };
    const failure = await failureOf({ services: addresses });
    expect(failure).toMatchObject({ service, retryable: true });
    expect(failure.message).toContain(service);
  });
});

describe('the courier', () => {
  beforeEach(() => expect(lab.requests.length).toBeGreaterThan(0));

  it('asks each service once, at its own address', async () => {
    const before = lab.requests.length;
    await countersign(request());
    const asked = lab.requests
      .slice(before)
      .map(({ service, method, path }) => `${service} ${method} ${path}`);
    expect(asked.toSorted()).toEqual([
      'fulcio POST /api/v2/signingCert',
      'rekor POST /api/v1/log/entries',
      'tsa POST /api/v1/timestamp',
    ]);
  });

  it('needs no service at all, and then changes nothing', async () => {
    expect(await countersign({ ...request(), services: {} })).toEqual(archive.pending);
  });

  it('takes the entry that the log has already', async () => {
    const bareKey = { ...request(), services: { rekor: lab.rekor } };
    const [first, second] = [await countersign(bareKey), await countersign(bareKey)];
    expect(second.verificationMaterial).toEqual(first.verificationMaterial);
    expect(lab.requests.at(-1)).toMatchObject({ service: 'rekor', method: 'GET' });
  });

  it('cannot have the node’s key sign anything else', async () => {
    const signed = preAuthEncoding(statementPayloadType, archive.statement);
    const holder = preparedSignatures(
      archive.pending,
      signed,
      archive.proofOfPossession,
      archive.publicKeyPem,
    );
    await expect(holder.sign(Buffer.from('transfer everything'))).rejects.toThrow('the node did not make');
    const { signature } = await holder.sign(Buffer.from(signed));
    expect(signature.toString('base64')).toBe(archive.pending.dsseEnvelope.signatures[0].sig);
  });

  it('is told what it lacks for Fulcio', async () => {
    expect(await failureOf({ identityToken: undefined })).toMatchObject({
      code: 'fulcio-unprepared',
      retryable: false,
    });
    const unproven = await failureOf({ proofOfPossession: null });
    expect(unproven.message).toContain('proof of possession');
    expect(unproven.remedy).toMatch(/`courier --once` .* without sigstore\.fulcio for this one/);
  });

  it('refuses a token that Fulcio could not take, tells why and what to do, and asks nobody', async () => {
    const minutesAgo = Math.floor(Date.now() / 1000) - 120;
    const refused: [string, string, RegExp][] = [
      ['mismatch', lab.identityToken('https://example.org/nodes/beta'), /nodes\/beta".*nodes\/alpha"/],
      ['mismatch', lab.identityToken(subject, { email: subject }), /an email that is not verified/],
      ['mismatch', lab.identityToken(subject, { email: 'ops@example.org', email_verified: true }), /ops@/],
      ['expired', lab.identityToken(subject, { exp: minutesAgo }), /expired at 20/],
      [
        'audience',
        lab.identityToken(subject, { aud: ['kubernetes'] }),
        /for "kubernetes", not for "sigstore"/,
      ],
      [
        'invalid',
        `e30.${Buffer.from(JSON.stringify({ sub: subject })).toString('base64url')}.`,
        /is not one/,
      ],
      ['invalid', 'e30.bnVsbA.', /is not one/],
      ['invalid', 'no token', /is not one/],
    ];
    const before = lab.requests.length;
    for (const [why, identityToken, told] of refused) {
      const failure = await failureOf({ identityToken });
      expect(failure).toMatchObject({ code: `identity-token-${why}`, status: 2, retryable: false });
      expect(failure.message).toMatch(told);
      expect(failure.remedy).toContain('Give the courier a token');
      expect(JSON.stringify(failure)).not.toContain(identityToken.split('.')[2] || identityToken);
    }
    expect(lab.requests).toHaveLength(before);
  });

  it('refuses a token of another issuer than the configured one', async () => {
    const tokenTerms = { audience: 'sigstore', issuer: 'https://issuer.example', renewal: 'Sign in there.' };
    expect(await failureOf({ tokenTerms })).toMatchObject({ code: 'identity-token-issuer', status: 2 });
  });

  it('never shows the identity token', async () => {
    const [header, payload] = lab.identityToken(subject).split('.');
    const identityToken = `${header}.${payload}.forged`;
    const failure = await failureOf({ identityToken });
    expect(failure).toMatchObject({ service: 'fulcio', code: 'fulcio-refused' });
    expect(JSON.stringify([failure, failure.stack, failure.cause])).not.toContain(identityToken);
  });

  it('refuses a proof of possession by another key', async () => {
    const { proofOfPossession } = signedArchive();
    expect(await failureOf({ proofOfPossession })).toMatchObject({ code: 'fulcio-refused' });
  });

  it('refuses addresses that are none, and a version 2 log for a bare key', async () => {
    for (const address of ['ftp://example.org', 'rekor', '']) {
      expect((await failureOf({ services: { rekor: address } })).message).toContain(
        'Rekor is not an http(s) URL',
      );
    }
    const failure = await failureOf({ services: { rekor: lab.rekor, rekorVersion: 2 } });
    expect(failure).toMatchObject({ code: 'sigstore-services-invalid', service: 'configuration', status: 2 });
  });

  it('does not take testimony that fails against its trusted root', async () => {
    await using other = await startSigstore();
    const failure = await failureOf({ trustedRoot: other.trustedRoot });
    expect(failure).toMatchObject({ code: 'testimony-untrusted', service: 'fulcio' });
    expect((await countersign({ ...request(), trustedRoot: lab.trustedRoot })).mediaType).toContain('v0.3');
  });

  it('refuses to countersign what is not a bundle', async () => {
    await expect(countersign({ ...request(), bundle: {} })).rejects.toThrow('not a Sigstore bundle v0.3');
  });
});
