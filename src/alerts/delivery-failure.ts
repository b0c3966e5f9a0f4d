// How a delivery fails. The sentences name the channel without credentials and never quote what the other side said, for it
// may echo a token.
import { exitStatus, Failure } from '../host/failure.ts';

/** `permanent`: the same attempt cannot succeed later. `retryAfterMilliseconds`: not sooner than that. */
export class DeliveryFailure extends Failure {
  readonly permanent: boolean;
  readonly retryAfterMilliseconds: number;

  private constructor(code: string, message: string, permanent: boolean, retryAfterMilliseconds: number) {
    super(code, message, {
      kept: permanent
        ? 'The alert is kept, dead-lettered, in the outbox.'
        : 'The alert stays in the outbox and is retried.',
    });
    this.permanent = permanent;
    this.retryAfterMilliseconds = retryAfterMilliseconds;
  }

  /** The channel said no, and will say no again. Code `channel-refused`. */
  static refused(message: string): DeliveryFailure {
    return new DeliveryFailure('channel-refused', message, true, 0);
  }

  /** There is nothing left to deliver. Code `bundle-gone`. */
  static gone(message: string): DeliveryFailure {
    return new DeliveryFailure('bundle-gone', message, true, 0);
  }

  /** The channel cannot take it now. Code `channel-unavailable`. */
  static unavailable(message: string, retryAfterMilliseconds = 0): DeliveryFailure {
    return new DeliveryFailure('channel-unavailable', message, false, retryAfterMilliseconds);
  }
}

/** A channel URL that cannot be used. `problem` must not quote the URL. Code `channel-invalid`, exit status 2. */
export const invalidChannel = (problem: string, example: string): Failure =>
  new Failure('channel-invalid', problem, {
    remedy: `Write it like \`${example}\`.`,
    status: exitStatus.usage,
  });

/**
 * The word for an error of a library: its code (`ECONNREFUSED`, `EAUTH`) or its class, never its message, which may hold
 * an address with credentials.
 */
export function errorWord(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  const { code } = error as { code?: unknown };
  if (typeof code === 'string' && /^[A-Z][A-Z0-9_]{1,40}$/.test(code)) return code;
  return error.cause === undefined ? error.name : errorWord(error.cause);
}
