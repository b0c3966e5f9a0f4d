// The TPM's clock as evidence: which of two readings is later (TPM 2.0 Library, Part 1, section 36; TPMS_CLOCK_INFO). Pure.
import { type Appraisal, failed, notProven, proven } from './verdict.ts';

/** TPMS_CLOCK_INFO as evidence states it; `clock` in milliseconds. */
export interface ClockReading {
  readonly clock: bigint | string;
  readonly resetCount: number;
  readonly restartCount: number;
  readonly safe: boolean;
}

/**
 * Whether `current` is later than `previous` in the life of one TPM. Without an earlier reading, or when the TPM itself
 * calls its clock unsafe, nothing is proven and nothing has failed.
 */
export function compareClock(
  previous: (Omit<ClockReading, 'clock' | 'safe'> & { readonly clock?: bigint | string }) | null,
  current: ClockReading,
): Appraisal {
  const now = milliseconds(current.clock);
  const before = previous?.clock === undefined ? null : milliseconds(previous.clock);
  if (now === undefined || before === undefined)
    return failed('The clock is not a decimal number of milliseconds.');
  if (previous === null) return notProven('There is no earlier reading of this clock to compare with.');
  const resets = current.resetCount - previous.resetCount;
  const restarts = resets === 0 ? current.restartCount - previous.restartCount : current.restartCount;
  if (resets < 0 || restarts < 0) {
    return failed(
      'The quote is older than the earlier reading, or the TPM was cleared: its reset or restart count went back.',
    );
  }
  if (!current.safe) {
    return notProven(
      'The TPM says that its clock is not safe: after an unclean stop it may repeat times it had told before.',
    );
  }
  if (before !== null && now < before) return failed(`The clock went back by ${before - now} ms.`);
  const later = before === null ? 'Later' : `${now - before} ms later`;
  return proven(
    `${later} than the earlier reading, with ${resets} TPM resets and ${restarts} restarts since.`,
  );
}

function milliseconds(clock: bigint | string): bigint | undefined {
  if (typeof clock === 'bigint') return clock;
  return /^\d{1,20}$/.test(clock) ? BigInt(clock) : undefined;
}
