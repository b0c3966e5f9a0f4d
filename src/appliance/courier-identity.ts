// Where the courier has its identity token for Fulcio from: the file that the configuration names, the environment of a CI job, or
// what `sigstore login` left, renewed for as long as the issuer allows. The node daemon has none of this.
import { readFileSync } from 'node:fs';
import {
  environmentRenewal,
  environmentSource,
  environmentToken,
  type IdentityEnvironment,
} from '../attestation/identity-environment.ts';
import type { IssuerClient } from '../attestation/identity-issuer.ts';
import { type ExpectedToken, readToken } from '../attestation/identity-token.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import type { Config } from './config.ts';
import { howToSignIn, isOf, readLogin, writeLogin } from './identity-login.ts';
import type { StateLayout } from './state-layout.ts';

/** For each request by itself. */
const timeoutMilliseconds = 15_000;
/** A token that is good for less is renewed first. */
const leastMilliseconds = 60_000;

export type IdentitySource = 'file' | 'environment' | 'sign-in';

/** The token, and what it must say. */
export interface IdentityToken {
  readonly identityToken: string;
  readonly tokenTerms: Omit<ExpectedToken, 'subject'>;
}

export const issuerClient = ({ sigstore }: Config): IssuerClient => ({
  issuer: sigstore.issuer,
  clientId: sigstore.client_id,
  timeoutSeconds: timeoutMilliseconds / 1000,
});

/** Which source the configuration and the environment lead to; null where nobody has signed in either. */
export function sourceOf(
  config: Config,
  layout: StateLayout,
  environment: IdentityEnvironment,
): IdentitySource | null {
  if (config.sigstore.identity_token_file !== '') return 'file';
  if (environmentSource(environment) !== null) return 'environment';
  return readLogin(layout) === null ? null : 'sign-in';
}

/** One for all deliveries of a courier: two of them must not renew one sign-in at once. */
export class CourierIdentity {
  readonly #config: Config;
  readonly #layout: StateLayout;
  readonly #environment: IdentityEnvironment;
  #renewing: Promise<string> | undefined;

  constructor(config: Config, layout: StateLayout, environment: IdentityEnvironment) {
    this.#config = config;
    this.#layout = layout;
    this.#environment = environment;
  }

  /** @throws Failure `identity-token-missing`, `identity-login-…`; CountersignFailure as the sources. None shows a token. */
  async token(): Promise<IdentityToken> {
    const { identity_token_file: file, client_id: audience, issuer } = this.#config.sigstore;
    const terms = (renewal: string): IdentityToken['tokenTerms'] => ({ audience, issuer, renewal });
    const source = sourceOf(this.#config, this.#layout, this.#environment);
    if (source === 'file') {
      return {
        identityToken: fromFile(file),
        tokenTerms: terms(`Have ${file} written anew before each bundle is countersigned.`),
      };
    }
    const ambient = environmentSource(this.#environment);
    if (ambient !== null) {
      const identityToken = await environmentToken(this.#environment, audience, timeoutMilliseconds);
      return { identityToken, tokenTerms: terms(environmentRenewal[ambient]) };
    }
    this.#renewing ??= this.#fromSignIn().finally(() => {
      this.#renewing = undefined;
    });
    return { identityToken: await this.#renewing, tokenTerms: terms(howToSignIn) };
  }

  async #fromSignIn(): Promise<string> {
    const login = readLogin(this.#layout);
    if (login === null) throw missing('nobody has signed in, and neither a file nor a CI job gives one');
    if (!isOf(login, this.#config)) {
      throw missing('the sign-in was made for another sigstore.issuer or sigstore.client_id');
    }
    const { expires } = readToken(login.idToken, howToSignIn);
    if (login.refreshToken === null || Date.parse(expires) - Date.now() > leastMilliseconds)
      return login.idToken;
    const { renew } = await import('../attestation/identity-issuer.ts');
    const issued = await renew(issuerClient(this.#config), login.refreshToken);
    // Whoever has signed in or out meanwhile, or given the node up, has the last word.
    if (readLogin(this.#layout)?.refreshToken === login.refreshToken) {
      writeLogin(this.#layout, { ...login, ...issued });
    }
    return issued.idToken;
  }
}

function fromFile(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch {
    throw missing(`${path} cannot be read`);
  }
  if (text === '') throw missing(`${path} is empty`);
  return text;
}

const missing = (why: string): Failure =>
  new Failure('identity-token-missing', `Fulcio needs an identity token, and the courier has none: ${why}.`, {
    kept: 'The bundle stays pending and is retried.',
    remedy: `Write it to sigstore.identity_token_file, or leave that empty. ${howToSignIn} In CI, start the courier itself with the job’s variables.`,
    status: exitStatus.usage,
  });
