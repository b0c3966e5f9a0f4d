// The issuer of identity tokens, asked in the device flow: a person signs in on any machine with a browser, and this one waits. All of
// openid-client is in here. RFC 8628; PKCE (RFC 7636) where the issuer tells of it; OpenID Connect Discovery 1.0; RFC 7009.

import {
  allowInsecureRequests,
  type Configuration,
  calculatePKCECodeChallenge,
  discovery,
  initiateDeviceAuthorization,
  None,
  pollDeviceAuthorizationGrant,
  ResponseBodyError,
  randomPKCECodeVerifier,
  refreshTokenGrant,
  tokenRevocation,
} from 'openid-client';
import { reasonOf } from '../host/failure.ts';
import { isLoopback } from '../host/loopback.ts';
import { CountersignFailure, misconfigured, withoutSecrets } from './countersign-failure.ts';

/** Who is asked, and as whom: a client without a secret. */
export interface IssuerClient {
  /** Without a trailing `/.well-known/openid-configuration`. */
  readonly issuer: string;
  readonly clientId: string;
  /** Seconds, for each request by itself. */
  readonly timeoutSeconds: number;
}

/** Seconds; nobody takes longer to sign in, whatever the issuer says. */
const mostPatience = 3600;

export interface IssuedTokens {
  readonly idToken: string;
  /** Null where the issuer gives none. */
  readonly refreshToken: string | null;
}

/** What the person is told. The issuer's words. */
export interface DevicePrompt {
  readonly address: string;
  /** The same with the code in it. */
  readonly completeAddress: string | null;
  readonly code: string;
  /** How long the code is good. */
  readonly seconds: number;
}

/**
 * Waits until the person has signed in. @throws CountersignFailure `identity-login-denied`, `-expired`, `-interrupted`, `-unsupported`,
 *   `identity-issuer-invalid`, `-refused`, `-unavailable`.
 */
export async function signIn(
  client: IssuerClient,
  tell: (prompt: DevicePrompt) => void,
  signal: AbortSignal,
): Promise<IssuedTokens> {
  const issuer = await discovered(client);
  const {
    device_authorization_endpoint: endpoint,
    code_challenge_methods_supported: methods = [],
    scopes_supported: scopes = ['openid', 'email'],
  } = issuer.serverMetadata();
  if (endpoint === undefined) {
    throw misconfigured(
      'identity-login-unsupported',
      `${client.issuer} has no device flow, so nobody can sign in there for this node.`,
      'Name another sigstore.issuer, or give the courier tokens by sigstore.identity_token_file.',
    );
  }
  const verifier = methods.includes('S256') ? randomPKCECodeVerifier() : undefined;
  const scope = ['openid', 'email', 'offline_access'].filter((one) => scopes.includes(one)).join(' ');
  const device = await asked(client, {}, async () =>
    initiateDeviceAuthorization(issuer, {
      scope,
      ...(verifier === undefined
        ? {}
        : { code_challenge: await calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' }),
    }),
  );
  const seconds = Math.min(device.expires_in, mostPatience);
  tell({
    address: device.verification_uri,
    completeAddress: device.verification_uri_complete ?? null,
    code: device.user_code,
    seconds,
  });
  const ending = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(seconds * 1000))]);
  const parameters: Record<string, string> = verifier === undefined ? {} : { code_verifier: verifier };
  const about = { secrets: [device.device_code, verifier ?? ''], meanings: endsOfSignIn };
  return issued(
    client,
    await asked(client, about, () =>
      pollDeviceAuthorizationGrant(issuer, device, parameters, { signal: ending }),
    ),
  );
}

/** Another identity token without a person. @throws CountersignFailure `identity-login-over`, `identity-issuer-…`. */
export async function renew(client: IssuerClient, refreshToken: string): Promise<IssuedTokens> {
  const issuer = await discovered(client);
  const about = { secrets: [refreshToken], meanings: endsOfRenewal };
  const answer = await asked(client, about, () => refreshTokenGrant(issuer, refreshToken));
  return issued(client, { refresh_token: refreshToken, ...answer });
}

/** False where the issuer cannot take it back. @throws CountersignFailure `identity-issuer-…`. */
export async function revoke(client: IssuerClient, refreshToken: string): Promise<boolean> {
  const issuer = await discovered(client);
  if (issuer.serverMetadata().revocation_endpoint === undefined) return false;
  await asked(client, { secrets: [refreshToken] }, () => tokenRevocation(issuer, refreshToken));
  return true;
}

function issued(
  { issuer }: IssuerClient,
  answer: { readonly id_token?: string | undefined; readonly refresh_token?: string | undefined },
): IssuedTokens {
  const { id_token: idToken, refresh_token: refreshToken = null } = answer;
  if (idToken !== undefined) return { idToken, refreshToken };
  throw new CountersignFailure(
    'identity issuer',
    false,
    'identity-issuer-refused',
    `${issuer} gave no identity token.`,
    { remedy: signInAgain },
  );
}

/** Plain HTTP is for an issuer on this machine alone. */
async function discovered(client: IssuerClient): Promise<Configuration> {
  const url = URL.parse(client.issuer);
  const local = url?.protocol === 'http:' && isLoopback(url.hostname.replace(/^\[|\]$/g, ''));
  if (url === null || !(url.protocol === 'https:' || local)) {
    throw misconfigured(
      'identity-issuer-invalid',
      client.issuer === ''
        ? 'No issuer of identity tokens is configured.'
        : 'The issuer is not an https URL.',
      'Set sigstore.issuer to the address of the OIDC issuer, such as https://oauth2.sigstore.dev/auth.',
    );
  }
  return await asked(client, {}, () =>
    discovery(url, client.clientId, undefined, None(), {
      timeout: client.timeoutSeconds,
      execute: local ? [allowInsecureRequests] : [],
    }),
  );
}

const signInAgain = 'Run `esoteric-appliance sigstore login` again.';

type Meanings = Readonly<Record<string, readonly [code: string, message: string]>>;

/** What the issuer answers, or the time brings, when a person or nobody has done something (RFC 8628, section 3.5). */
const endsOfSignIn: Meanings = {
  access_denied: ['identity-login-denied', 'The sign-in was denied.'],
  expired_token: ['identity-login-expired', 'Nobody signed in before the code expired.'],
  OAUTH_TIMEOUT: ['identity-login-expired', 'Nobody signed in before the code expired.'],
  OAUTH_ABORT: ['identity-login-interrupted', 'The sign-in was interrupted.'],
};
/** RFC 6749, section 5.2. */
const endsOfRenewal: Meanings = {
  invalid_grant: [
    'identity-login-over',
    'The sign-in is over: the issuer takes its refresh token no longer.',
  ],
};

/** Whatever goes wrong becomes a failure that shows none of `secrets`; the cause is dropped, for it may. */
async function asked<T>(
  { issuer }: IssuerClient,
  about: { readonly secrets?: readonly string[]; readonly meanings?: Meanings },
  ask: () => Promise<T>,
): Promise<T> {
  const { secrets = [], meanings = {} } = about;
  try {
    return await ask();
  } catch (error) {
    const answered = error instanceof ResponseBodyError ? error : undefined;
    const code = answered?.error ?? (error instanceof Error && 'code' in error ? String(error.code) : '');
    const meaning = Object.hasOwn(meanings, code) ? meanings[code] : undefined;
    if (meaning !== undefined) {
      throw new CountersignFailure('identity issuer', false, ...meaning, { remedy: signInAgain });
    }
    let inner = error;
    while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause;
    const told = answered === undefined ? reasonOf(inner) : `${code} ${answered.error_description ?? ''}`;
    const reason = withoutSecrets(told, secrets);
    if (answered !== undefined && answered.status < 500 && answered.status !== 429) {
      throw misconfigured(
        'identity-issuer-refused',
        `The issuer ${issuer} refused: ${reason}.`,
        'Look whether sigstore.client_id is known there, as a client without a secret that may use the device flow.',
      );
    }
    throw new CountersignFailure(
      'identity issuer',
      true,
      'identity-issuer-unavailable',
      `The issuer ${issuer} could not be asked: ${reason}.`,
      { remedy: 'Nothing, if that passes; otherwise look at sigstore.issuer and the network.' },
    );
  }
}
