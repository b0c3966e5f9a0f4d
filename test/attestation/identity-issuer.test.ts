// Identity tokens for Fulcio: by the device flow from an issuer, and from the environment of a CI job, over real HTTP.

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CountersignFailure } from '../../src/attestation/countersign-failure.ts';
import { environmentSource, environmentToken } from '../../src/attestation/identity-environment.ts';
import { type DevicePrompt, renew, revoke, signIn } from '../../src/attestation/identity-issuer.ts';
import { readToken } from '../../src/attestation/identity-token.ts';
import { Failure } from '../../src/host/failure.ts';
import { type LocalSigstore, startSigstore } from '../lab/sigstore.ts';

let lab: LocalSigstore;
const person = { sub: 'CgQxMjM0', email: 'ops@example.org', email_verified: true };
const client = (issuer = lab.issuer, clientId = 'sigstore') => ({ issuer, clientId, timeoutSeconds: 1 });
const never = new AbortController().signal;
const usual = { pkce: true, refresh: true, device: true, lifetime: 3600, patience: 60 };

beforeAll(async () => {
  lab = await startSigstore();
});
afterAll(() => lab.stop());
beforeEach(() => {
  Object.assign(lab.oidc.options, usual);
});

const approve = ({ code }: DevicePrompt): void => lab.oidc.approve(code, person);

/** What it failed with; no failure shows a credential, wherever one looks. */
async function failureOf(attempt: Promise<unknown>): Promise<CountersignFailure> {
  const thrown = await attempt.then(
    () => 'it succeeded',
    (error: unknown) => error,
  );
  if (!(thrown instanceof CountersignFailure)) throw new Error(`no countersign failure: ${String(thrown)}`);
  const shown = JSON.stringify([thrown, thrown.message, thrown.remedy, thrown.stack, String(thrown.cause)]);
  for (const credential of lab.oidc.credentials) expect(shown).not.toContain(credential);
  expect(thrown.remedy).toMatch(/^[A-Z].*\.$/);
  return thrown;
}

describe('the device flow', () => {
  it('shows an address and a code, waits for the person, and has what renews the token', async () => {
    const prompts: DevicePrompt[] = [];
    const tokens = await signIn(
      client(),
      (prompt) => {
        prompts.push(prompt);
        setTimeout(() => approve(prompt), 250);
      },
      never,
    );
    const [prompt] = prompts;
    expect(prompt).toMatchObject({ address: `${lab.issuer}/device`, seconds: 60 });
    expect(prompt?.code).toMatch(/^[0-9A-F]{4}-[0-9A-F]{4}$/);
    expect(prompt?.completeAddress).toBe(`${lab.issuer}/device?user_code=${prompt?.code}`);
    expect(readToken(tokens.idToken, 'x')).toMatchObject({
      issuer: lab.issuer,
      subject: 'ops@example.org',
      audience: ['sigstore'],
    });
    const renewed = await renew(client(), tokens.refreshToken ?? '');
    expect(renewed.refreshToken).not.toBe(tokens.refreshToken);
    // The issuer takes each refresh token once.
    const again = renew(client(), tokens.refreshToken ?? '');
    expect(await failureOf(again)).toMatchObject({ code: 'identity-login-over', retryable: false });
    expect(await revoke(client(), renewed.refreshToken ?? '')).toBe(true);
    expect(await failureOf(renew(client(), renewed.refreshToken ?? ''))).toMatchObject({
      code: 'identity-login-over',
    });
  });

  it('goes without PKCE and without a refresh token where the issuer has none', async () => {
    Object.assign(lab.oidc.options, { pkce: false, refresh: false });
    const tokens = await signIn(client(), approve, never);
    expect(tokens.refreshToken).toBeNull();
  });

  it('ends when the person says no, when nobody comes, and when it is interrupted', async () => {
    const denied = signIn(client(), ({ code }) => lab.oidc.deny(code), never);
    expect(await failureOf(denied)).toMatchObject({ code: 'identity-login-denied' });
    lab.oidc.options.patience = 0.3;
    const late = signIn(client(), () => {}, never);
    expect(await failureOf(late)).toMatchObject({ code: 'identity-login-expired' });
    lab.oidc.options.patience = 60;
    const controller = new AbortController();
    const interrupted = signIn(client(), () => controller.abort(), controller.signal);
    expect(await failureOf(interrupted)).toMatchObject({ code: 'identity-login-interrupted' });
  });

  it('waits an hour at most, however long the issuer would', async () => {
    lab.oidc.options.patience = 1e12;
    const told: number[] = [];
    const tell = (prompt: DevicePrompt): void => {
      told.push(prompt.seconds);
      approve(prompt);
    };
    await signIn(client(), tell, never);
    expect(told).toEqual([3600]);
  });

  it.each(['constructor', '__proto__'])('knows no meaning of an answer that is called %s', async (error) => {
    const server = createServer(({ url }, response) => {
      const found = url === '/.well-known/openid-configuration';
      response.writeHead(found ? 200 : 400, { 'content-type': 'application/json' });
      response.end(JSON.stringify(found ? { issuer, token_endpoint: `${issuer}/token` } : { error }));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      const refused = await failureOf(renew(client(issuer), 'a refresh token'));
      expect(refused).toMatchObject({ code: 'identity-issuer-refused', status: 2 });
      expect(refused.message).toContain(error);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });

  it('tells what to do where the issuer is none, has no such flow, does not know this client or is not there', async () => {
    const attempt = (issuer?: string, clientId?: string) =>
      failureOf(signIn(client(issuer, clientId), approve, never));
    expect(await attempt('')).toMatchObject({ code: 'identity-issuer-invalid', status: 2 });
    expect(await attempt('http://issuer.example/')).toMatchObject({ code: 'identity-issuer-invalid' });
    expect(await attempt('http://127.0.0.1:1')).toMatchObject({
      code: 'identity-issuer-unavailable',
      retryable: true,
    });
    expect(await attempt(undefined, 'unknown')).toMatchObject({
      code: 'identity-issuer-refused',
      retryable: false,
    });
    lab.failNext('issuer', 503);
    expect(await attempt()).toMatchObject({ code: 'identity-issuer-unavailable', retryable: true });
    lab.failNext('issuer', 'hang');
    expect(await attempt()).toMatchObject({ code: 'identity-issuer-unavailable', retryable: true });
    lab.oidc.options.device = false;
    expect(await attempt()).toMatchObject({ code: 'identity-login-unsupported', status: 2 });
  });
});

describe('the environment of a CI job', () => {
  const github = (permit = lab.oidc.jobPermit) => ({
    ACTIONS_ID_TOKEN_REQUEST_URL: `${lab.issuer}/job/token?api-version=2.0`,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: permit,
  });

  it('is known by its variables', () => {
    expect(environmentSource({})).toBeNull();
    expect(environmentSource({ ...github(), ACTIONS_ID_TOKEN_REQUEST_TOKEN: '' })).toBeNull();
    expect(environmentSource(github())).toBe('GitHub Actions');
    expect(environmentSource({ ...github(), SIGSTORE_ID_TOKEN: 'e30.e30.' })).toBe('SIGSTORE_ID_TOKEN');
  });

  it('of GitHub Actions is asked for a token for the audience', async () => {
    const token = await environmentToken(github(), 'sigstore', 1000);
    expect(readToken(token, 'x')).toMatchObject({
      audience: ['sigstore'],
      subject: lab.oidc.jobSubject,
    });
    expect(lab.requests.at(-1)?.path).toBe('/job/token?api-version=2.0&audience=sigstore');
  });

  it('of GitLab has the token itself', async () => {
    const asked = lab.requests.length;
    expect(await environmentToken({ SIGSTORE_ID_TOKEN: 'e30.e30.' }, 'sigstore', 1000)).toBe('e30.e30.');
    expect(lab.requests).toHaveLength(asked);
  });

  it('that refuses, fails, hangs or answers nonsense is told, with what it takes', async () => {
    const attempt = (environment = github()) => failureOf(environmentToken(environment, 'sigstore', 300));
    const refused = await attempt(github('another'));
    expect(refused).toMatchObject({ code: 'identity-token-refused', retryable: false, status: 2 });
    expect(refused.remedy).toContain('id-token: write');
    const unavailable = { code: 'identity-token-unavailable', retryable: true };
    lab.failNext('issuer', 503);
    expect(await attempt()).toMatchObject(unavailable);
    lab.failNext('issuer', 'hang');
    expect(await attempt()).toMatchObject(unavailable);
    lab.failNext('issuer', 'garbage');
    expect(await attempt()).toMatchObject(unavailable);
    expect(await attempt({ ...github(), ACTIONS_ID_TOKEN_REQUEST_URL: 'nowhere' })).toMatchObject({
      code: 'identity-token-refused',
    });
  });
});

it('a token that is none is refused without being shown', () => {
  for (const token of [
    '',
    'secret-secret',
    'e30.e30.e30',
    `e30.${Buffer.from('{"iss":1}').toString('base64url')}.`,
  ]) {
    const read = () => readToken(token, 'Sign in.');
    expect(read).toThrow(Failure);
    expect(read).toThrow(/is not one/);
    expect(read).not.toThrow(/secret/);
  }
});
