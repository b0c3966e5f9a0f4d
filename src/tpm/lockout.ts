// Dictionary attack protection: how many wrong authorizations a TPM bears before it refuses all objects that count them
// (TPM 2.0 Library, Part 1, section 19.8; Part 3, section 25). Its present state is in properties.ts.
import { emptyAuth, esysHandle } from './commands.ts';
import type { Connection } from './connection.ts';

export interface LockoutParameters {
  /** Wrong tries before the lockout. */
  readonly maxTries: number;
  /** Seconds until one wrong try is forgiven. */
  readonly recoverySeconds: number;
  /** Seconds for which the lockout authorization cannot be tried again after a wrong one; 0 is until the next reset. */
  readonly lockoutRecoverySeconds: number;
}

/** TPM2_DictionaryAttackParameters, with an empty lockout authorization. */
export function setLockoutParameters(connection: Connection, parameters: LockoutParameters): Promise<void> {
  const { maxTries, recoverySeconds, lockoutRecoverySeconds } = parameters;
  return connection.execute('DictionaryAttackParameters', [
    esysHandle.lockout,
    ...emptyAuth,
    maxTries,
    recoverySeconds,
    lockoutRecoverySeconds,
  ]);
}

/** TPM2_DictionaryAttackLockReset, with an empty lockout authorization: ends a lockout and forgives all wrong tries. */
export function resetLockout(connection: Connection): Promise<void> {
  return connection.execute('DictionaryAttackLockReset', [esysHandle.lockout, ...emptyAuth]);
}
