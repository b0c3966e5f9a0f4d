// What can go wrong at a Sigstore service, in an operator's words: which service, and whether to try again.

import { exitStatus, Failure, type FailureDetails, reasonOf } from '../host/failure.ts';

export type SigstoreService =
  | 'fulcio'
  | 'rekor'
  | 'timestamp authority'
  | 'identity issuer'
  | 'configuration';

/** Which service failed, and whether trying again later can help by itself. */
export class CountersignFailure extends Failure {
  readonly service: SigstoreService;
  readonly retryable: boolean;

  constructor(
    service: SigstoreService,
    retryable: boolean,
    code: string,
    message: string,
    details: FailureDetails,
  ) {
    super(code, message, { kept: 'The bundle stays pending and is retried.', ...details });
    this.service = service;
    this.retryable = retryable;
  }
}

/** Something that only the operator can set right. */
export const misconfigured = (code: string, message: string, remedy: string): CountersignFailure =>
  new CountersignFailure('configuration', false, code, message, { remedy, status: exitStatus.usage });

/** Asks one service; whatever goes wrong becomes a `CountersignFailure` that does not show `secret`. */
export async function asking<T>(
  service: SigstoreService,
  secret: string | undefined,
  ask: () => Promise<T>,
): Promise<T> {
  try {
    return await ask();
  } catch (thrown) {
    const { status, reason } = diagnosis(thrown, secret === undefined ? [] : [secret]);
    const refused = status !== undefined && status >= 400 && status < 500 && status !== 408 && status !== 429;
    const code = `${service.replaceAll(' ', '-')}-${refused ? 'refused' : 'unavailable'}`;
    throw new CountersignFailure(
      service,
      !refused,
      code,
      `The Sigstore ${service} did not countersign: ${reason}.`,
      {
        remedy: refused
          ? 'Look at what the service refused (an expired identity token is the usual cause), then let the courier retry.'
          : 'Nothing, if the service comes back; otherwise check its address and the network.',
      },
    );
  }
}

/** Others' words for one line: blanked before they are cut, so that no part of a secret stays at the end. */
export const withoutSecrets = (words: string, secrets: readonly string[]): string =>
  secrets
    .filter((secret) => secret !== '')
    .reduce((text, secret) => text.replaceAll(secret, '(credential)'), words)
    .replaceAll(/[\s\p{Cc}]+/gu, ' ')
    .trim()
    .slice(0, 300);

/** The innermost reason, without the identity token, which some messages repeat. The cause is dropped for the same reason. */
function diagnosis(
  thrown: unknown,
  secrets: readonly string[],
): { status: number | undefined; reason: string } {
  let inner = thrown;
  while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause;
  const status =
    inner instanceof Error && 'statusCode' in inner && typeof inner.statusCode === 'number'
      ? inner.statusCode
      : undefined;
  return { status, reason: withoutSecrets(reasonOf(inner), secrets) };
}
