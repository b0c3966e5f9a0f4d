// An identity token from the environment of a CI job, by the names that Sigstore's clients look for: SIGSTORE_ID_TOKEN (GitLab's
// `id_tokens`, and whoever else sets it), or GitHub Actions, which is asked for one.
// https://docs.github.com/en/actions/reference/security/oidc, https://docs.gitlab.com/ci/yaml/signing_examples/

import { reasonOf } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import { CountersignFailure, misconfigured, withoutSecrets } from './countersign-failure.ts';

/** Variables that hold a credential, or lead to one with the other. */
export const identityVariables = [
  'SIGSTORE_ID_TOKEN',
  'ACTIONS_ID_TOKEN_REQUEST_TOKEN',
  'ACTIONS_ID_TOKEN_REQUEST_URL',
] as const;

export type IdentityEnvironment = Readonly<
  Partial<Record<(typeof identityVariables)[number], string | undefined>>
>;

export type EnvironmentSource = 'SIGSTORE_ID_TOKEN' | 'GitHub Actions';

/** Which one there is; null where this is no such job. */
export function environmentSource(environment: IdentityEnvironment): EnvironmentSource | null {
  const { SIGSTORE_ID_TOKEN: token, ACTIONS_ID_TOKEN_REQUEST_URL: url } = environment;
  if (token) return 'SIGSTORE_ID_TOKEN';
  return url && environment.ACTIONS_ID_TOKEN_REQUEST_TOKEN ? 'GitHub Actions' : null;
}

export const environmentRenewal: Readonly<Record<EnvironmentSource, string>> = {
  SIGSTORE_ID_TOKEN:
    'Start the job anew, with `id_tokens: {SIGSTORE_ID_TOKEN: {aud: sigstore}}` in .gitlab-ci.yml or what sets it elsewhere.',
  'GitHub Actions': 'Repeat it in a job with `permissions: {id-token: write}`.',
};

/**
 * The token, asked for anew where it can be. `environment` has one (`environmentSource`).
 * @throws CountersignFailure `identity-token-refused`, `identity-token-unavailable`.
 */
export async function environmentToken(
  environment: IdentityEnvironment,
  audience: string,
  timeoutMilliseconds: number,
): Promise<string> {
  if (environmentSource(environment) === 'SIGSTORE_ID_TOKEN') return environment.SIGSTORE_ID_TOKEN ?? '';
  const { ACTIONS_ID_TOKEN_REQUEST_URL: address = '', ACTIONS_ID_TOKEN_REQUEST_TOKEN: permit = '' } =
    environment;
  if (!URL.canParse(address)) throw refused('ACTIONS_ID_TOKEN_REQUEST_URL is not a URL');
  const url = new URL(address);
  url.searchParams.set('audience', audience);
  let answer: Response;
  let body: unknown;
  try {
    answer = await fetch(url, {
      headers: { accept: 'application/json', authorization: `Bearer ${permit}` },
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMilliseconds),
    });
    body = await answer.json().catch(() => null);
  } catch (error) {
    throw unavailable(`it did not answer (${withoutSecrets(reasonOf(error), [permit])})`);
  }
  if (!answer.ok) {
    const why = `it answered ${answer.status}`;
    throw answer.status >= 500 || answer.status === 429 ? unavailable(why) : refused(why);
  }
  const token = z.object({ value: z.string().min(1) }).safeParse(body).data?.value;
  if (token === undefined) throw unavailable('its answer holds no token');
  return token;
}

const refused = (why: string): CountersignFailure =>
  misconfigured(
    'identity-token-refused',
    `GitHub Actions gives no identity token: ${why}.`,
    environmentRenewal['GitHub Actions'],
  );

const unavailable = (why: string): CountersignFailure =>
  new CountersignFailure(
    'configuration',
    true,
    'identity-token-unavailable',
    `GitHub Actions could not be asked for an identity token: ${why}.`,
    { remedy: 'Nothing, if that passes; otherwise look at the state of the runner and its network.' },
  );
