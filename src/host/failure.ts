// The one family of errors that operators see. A failure says what happened, what was kept safe, and what to do next.

/** Exit statuses of the command line (docs/cli.md). */
export const exitStatus = { done: 0, failed: 1, usage: 2, rejected: 3, zeroized: 4 } as const;
export type ExitStatus = (typeof exitStatus)[keyof typeof exitStatus];

export interface FailureDetails {
  /** What is still safe although this failed, as a sentence. */
  readonly kept?: string;
  /** What the operator does next, as a sentence in the imperative. */
  readonly remedy?: string;
  /** Defaults to `failed` (1). */
  readonly status?: ExitStatus;
  readonly cause?: unknown;
}

/**
 * An expected failure: shown as sentences, never as a stack trace. `code` is stable, kebab-case and names the
 * condition (`tpm-missing`, `config-invalid`); programs match on it, people read `message` and `remedy`.
 */
export class Failure extends Error {
  readonly code: string;
  readonly kept: string | undefined;
  readonly remedy: string | undefined;
  readonly status: ExitStatus;

  constructor(code: string, message: string, details: FailureDetails = {}) {
    // A reason that was put at its end may be a sentence with a full stop of its own.
    super(
      message.replace(/([^.])\.\.$/, '$1.'),
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.name = 'Failure';
    this.code = code;
    this.kept = details.kept;
    this.remedy = details.remedy;
    this.status = details.status ?? exitStatus.failed;
  }

  toJSON(): { code: string; message: string; kept?: string; remedy?: string } {
    return {
      code: this.code,
      message: this.message,
      ...(this.kept === undefined ? {} : { kept: this.kept }),
      ...(this.remedy === undefined ? {} : { remedy: this.remedy }),
    };
  }
}

/** The refusal of every door after a zeroize: no secret, no output, no link. Exit status 4. */
export function zeroizedFailure(what: string): Failure {
  return new Failure('zeroized', `${what} is refused: this node has been zeroized.`, {
    kept: 'The evidence and the custody log are intact.',
    remedy:
      'Look at `esoteric-appliance status`, keep the forensic bundle, stop the node; then start it anew after a purge, else reboot and re-arm it with `esoteric-appliance provision --re-arm`.',
    status: exitStatus.zeroized,
  });
}

/** The sentence of any thrown value, for logs and records that must not carry a stack trace. */
export function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
