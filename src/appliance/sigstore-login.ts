// `sigstore login`, `status` and `logout`: a person signs in for the courier. All of it runs as the courier's user, which nothing else
// of the node does, and speaks to the issuer alone.
import { existsSync, readFileSync } from 'node:fs';
import { environmentSource } from '../attestation/identity-environment.ts';
import type { DevicePrompt } from '../attestation/identity-issuer.ts';
import { readToken, requireFit, type TokenClaims } from '../attestation/identity-token.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { becomeUser, findUser } from '../host/privileges.ts';
import { unprovisioned } from '../keys/lifecycle.ts';
import type { Config } from './config.ts';
import { type IdentitySource, issuerClient, sourceOf } from './courier-identity.ts';
import { howToSignIn, isOf, readLogin, removeLogin, writeLogin } from './identity-login.ts';
import { type StateLayout, stateLayout } from './state-layout.ts';

/** The JSON contract of `sigstore login`. */
export interface SignedIn {
  readonly issuer: string;
  readonly subject: string | null;
  /** RFC 3339, of the identity token. */
  readonly expires: string;
  /** Whether the courier can have another without a person. */
  readonly renewable: boolean;
}

/** The JSON contract of `sigstore status`. Nothing of it is a credential. */
export interface IdentityStatus {
  readonly source: IdentitySource | null;
  /** What nodes prove their key for; null where none is configured. */
  readonly identity: string | null;
  /** Of the token that is at hand; null where it is asked for when it is needed. */
  readonly token: SignedIn | null;
  /** Why the courier could not use it now. */
  readonly problem: string | null;
}

/** @throws Failure `unprovisioned`, `identity-login-…`; CountersignFailure as `signIn` and `requireFit`. */
export async function login(
  config: Config,
  tell: (prompt: DevicePrompt) => void,
  signal: AbortSignal,
): Promise<SignedIn> {
  const { signIn } = await import('../attestation/identity-issuer.ts');
  const layout = asCourier(config);
  const { idToken, refreshToken } = await signIn(issuerClient(config), tell, signal);
  const claims =
    config.sigstore.identity === ''
      ? readToken(idToken, howToSignIn)
      : requireFit(idToken, expectedOf(config));
  const { issuer, client_id: clientId } = config.sigstore;
  writeLogin(layout, { issuer, clientId, idToken, refreshToken });
  return signedIn(claims, refreshToken !== null);
}

/** Asks nobody. @throws Failure `unprovisioned`, `identity-login-…`. */
export function identityStatus(config: Config): IdentityStatus {
  const layout = asCourier(config);
  const source = sourceOf(config, layout, process.env);
  const identity = config.sigstore.identity === '' ? null : config.sigstore.identity;
  const about = { source, identity };
  if (source === null) return { ...about, token: null, problem: `No identity token. ${howToSignIn}` };
  try {
    const found = atHand(config, layout, source);
    if (found === null) return { ...about, token: null, problem: null };
    const token = signedIn(readToken(found.token, howToSignIn), found.renewable);
    return { ...about, token, problem: problemOf(config, found) };
  } catch (error) {
    return { ...about, token: null, problem: reasonOf(error) };
  }
}

/** Forgets the sign-in here, and at the issuer where it can take it back. @throws Failure `unprovisioned`, `identity-unrevoked`. */
export async function logout(config: Config): Promise<{ removed: boolean; revoked: boolean }> {
  const { revoke } = await import('../attestation/identity-issuer.ts');
  const layout = asCourier(config);
  const found = readLogin(layout);
  removeLogin(layout); // Whatever the issuer says; also what a sign-in that was killed has left half written.
  if (found === null) return { removed: false, revoked: false };
  const { issuer, clientId, refreshToken } = found;
  if (refreshToken === null) return { removed: true, revoked: false };
  const client = { ...issuerClient(config), issuer, clientId };
  try {
    return { removed: true, revoked: await revoke(client, refreshToken) };
  } catch (error) {
    throw new Failure('identity-unrevoked', `The issuer did not take the sign-in back: ${reasonOf(error)}`, {
      kept: 'It is forgotten here.',
      remedy: `End the session of ${JSON.stringify(clientId)} at ${issuer} by hand, where somebody else may hold a copy.`,
    });
  }
}

/** Gives root up for good: what follows is in the courier's own directory. */
function asCourier(config: Config): StateLayout {
  const layout = stateLayout(config.node.state_dir);
  if (!existsSync(layout.spool)) throw unprovisioned(layout.directory);
  if (config.courier.user !== '') becomeUser(findUser(config.courier.user));
  return layout;
}

interface AtHand {
  readonly token: string;
  readonly renewable: boolean;
}

/** Null where the token is asked for when it is needed. */
function atHand({ sigstore }: Config, layout: StateLayout, source: IdentitySource): AtHand | null {
  if (source === 'file') {
    return { token: readFileSync(sigstore.identity_token_file, 'utf8').trim(), renewable: false };
  }
  if (source === 'environment') {
    return environmentSource(process.env) === 'SIGSTORE_ID_TOKEN'
      ? { token: process.env.SIGSTORE_ID_TOKEN ?? '', renewable: false }
      : null;
  }
  const found = readLogin(layout);
  return found === null ? null : { token: found.idToken, renewable: found.refreshToken !== null };
}

/** One that can be renewed may have expired. */
function problemOf(config: Config, { token, renewable }: AtHand): string | null {
  if (config.sigstore.identity === '')
    return 'sigstore.identity is not set, so nodes prove their key for nobody.';
  const login = renewable ? readLogin(stateLayout(config.node.state_dir)) : null;
  if (login !== null && !isOf(login, config)) return `It is of another issuer or client. ${howToSignIn}`;
  try {
    requireFit(token, expectedOf(config), renewable ? 0 : Date.now());
    return null;
  } catch (error) {
    return reasonOf(error);
  }
}

const expectedOf = ({ sigstore: { identity: subject, issuer, client_id: audience } }: Config) => ({
  subject,
  issuer,
  audience,
  renewal: howToSignIn,
});

const signedIn = ({ issuer, subject, expires }: TokenClaims, renewable: boolean): SignedIn => ({
  issuer,
  subject,
  expires,
  renewable,
});
