// An OIDC issuer over real HTTP, for clients without a secret: discovery, the device flow with PKCE (RFC 8628, RFC 7636), refresh
// tokens that rotate, revocation (RFC 7009), and GitHub's way of giving a job its token. Only the person is played by the test.

import { createHash, randomBytes } from 'node:crypto';
import type { Answer, Handler } from './sigstore-rekor.ts';

/** Who signs in, as the claims of the tokens that follow say it. */
export type Person =
  | { readonly sub: string }
  | { readonly sub: string; readonly email: string; readonly email_verified: boolean };

export interface IssuerOptions {
  /** Whether discovery tells of PKCE; then it is demanded. Default true. */
  pkce: boolean;
  /** Whether there are refresh tokens. Default true. */
  refresh: boolean;
  /** Whether there is a device flow. Default true. */
  device: boolean;
  /** Seconds for which identity tokens are good; may be negative. Default 3600. */
  lifetime: number;
  /** Seconds for which a code is good. Default 60. */
  patience: number;
}

export interface OidcIssuer {
  readonly url: string;
  /** What may be changed between two requests. */
  readonly options: IssuerOptions;
  /** Every token, code and verifier that was given out or shown to it: none of them may turn up anywhere else. */
  readonly credentials: string[];
  /** Bearer of a CI job. */
  readonly jobPermit: string;
  /** The subject of the tokens of a CI job. */
  jobSubject: string;
  /** The person signs in, or says no. Throws for a code that was not given out. */
  approve(code: string, person: Person): void;
  deny(code: string): void;
  readonly handler: Handler;
}

interface Device {
  readonly userCode: string;
  readonly client: string;
  readonly challenge: string | null;
  readonly expires: number;
  state: Person | 'pending' | 'denied';
}

type Issue = (claims: object, lifetimeSeconds: number) => string;

export function oidcIssuer(url: string, issue: Issue): OidcIssuer {
  const devices = new Map<string, Device>();
  const refreshTokens = new Map<string, { readonly person: Person; readonly client: string }>();
  const credentials: string[] = [];
  const secret = (): string => {
    const made = randomBytes(24).toString('base64url');
    credentials.push(made);
    return made;
  };
  const options: IssuerOptions = { pkce: true, refresh: true, device: true, lifetime: 3600, patience: 60 };
  const jobPermit = secret();

  const tokens = (person: Person, client: string): Answer => {
    const idToken = issue({ iss: url, aud: client, ...person }, options.lifetime);
    credentials.push(idToken);
    const refresh = options.refresh ? secret() : undefined;
    if (refresh !== undefined) refreshTokens.set(refresh, { person, client });
    const access = secret();
    return json(200, {
      access_token: access,
      token_type: 'Bearer',
      id_token: idToken,
      refresh_token: refresh,
    });
  };

  const authorize = (form: URLSearchParams): Answer => {
    const challenge = form.get('code_challenge');
    if (form.get('client_id') !== 'sigstore') return refused('invalid_client');
    if (!(form.get('scope') ?? '').split(' ').includes('openid')) return refused('invalid_scope');
    if (options.pkce && (challenge === null || form.get('code_challenge_method') !== 'S256'))
      return refused('invalid_request', 'PKCE is asked for here');
    const userCode = `${randomBytes(2).toString('hex')}-${randomBytes(2).toString('hex')}`.toUpperCase();
    const device = secret();
    devices.set(device, {
      userCode,
      client: 'sigstore',
      challenge,
      expires: Date.now() + options.patience * 1000,
      state: 'pending',
    });
    return json(200, {
      device_code: device,
      user_code: userCode,
      verification_uri: `${url}/device`,
      verification_uri_complete: `${url}/device?user_code=${userCode}`,
      expires_in: options.patience,
      interval: 0.1,
    });
  };

  const token = (form: URLSearchParams): Answer => {
    if (form.get('grant_type') === 'refresh_token') {
      const given = form.get('refresh_token') ?? '';
      const known = refreshTokens.get(given);
      refreshTokens.delete(given); // Each is good once.
      return known === undefined
        ? refused('invalid_grant', `no such token: ${given}`)
        : tokens(known.person, known.client);
    }
    const device = devices.get(form.get('device_code') ?? '');
    if (device === undefined) return refused('invalid_grant');
    const verifier = form.get('code_verifier');
    if (verifier !== null) credentials.push(verifier);
    if (device.challenge !== null && device.challenge !== challengeOf(verifier ?? ''))
      return refused('invalid_grant', 'the verifier is another');
    if (device.expires < Date.now()) return refused('expired_token');
    if (device.state === 'pending') return refused('authorization_pending');
    if (device.state === 'denied') return refused('access_denied');
    devices.delete(form.get('device_code') ?? '');
    return tokens(device.state, device.client);
  };

  const byCode = (code: string): Device => {
    const found = [...devices.values()].find(({ userCode }) => userCode === code);
    if (found === undefined) throw new Error(`no such code: ${code}`);
    return found;
  };

  const issuer: OidcIssuer = {
    url,
    options,
    credentials,
    jobPermit,
    jobSubject: 'repo:example/node:ref:refs/heads/main',
    approve: (code, person) => {
      byCode(code).state = person;
    },
    deny: (code) => {
      byCode(code).state = 'denied';
    },
    handler: async (body, request) => {
      const { pathname, searchParams } = new URL(request.url ?? '', url);
      const form = new URLSearchParams(body);
      switch (`${request.method} ${pathname}`) {
        case 'GET /.well-known/openid-configuration':
          return json(200, {
            issuer: url,
            token_endpoint: `${url}/token`,
            revocation_endpoint: `${url}/revoke`,
            jwks_uri: `${url}/keys`,
            id_token_signing_alg_values_supported: ['ES256'],
            scopes_supported: ['openid', 'email', 'offline_access'],
            ...(options.device ? { device_authorization_endpoint: `${url}/device/code` } : {}),
            ...(options.pkce ? { code_challenge_methods_supported: ['S256'] } : {}),
          });
        case 'POST /device/code':
          return authorize(form);
        case 'POST /token':
          return token(form);
        case 'POST /revoke':
          refreshTokens.delete(form.get('token') ?? '');
          return { status: 200, body: '' };
        case 'GET /job/token': {
          if (request.headers.authorization !== `Bearer ${jobPermit}`) return json(401, { message: 'no' });
          const audience = searchParams.get('audience') ?? '';
          const value = issue({ iss: url, aud: audience, sub: issuer.jobSubject }, options.lifetime);
          credentials.push(value);
          return json(200, { value });
        }
        default:
          return json(404, { error: 'not_found' });
      }
    },
  };
  return issuer;
}

const challengeOf = (verifier: string): string => createHash('sha256').update(verifier).digest('base64url');

const json = (status: number, value: object): Answer => ({
  status,
  body: JSON.stringify(value),
  type: 'application/json',
});

const refused = (error: string, description?: string): Answer =>
  json(400, { error, ...(description === undefined ? {} : { error_description: description }) });
