// Clocks, passed in wherever a test must steer them.
import { clockGettime } from './libc.ts';

/** CLOCK_MONOTONIC in microseconds, comparable between threads and processes of one boot. */
export const monotonicMicros = (): number => Number(process.hrtime.bigint() / 1000n);

/** RFC 3339 in UTC with milliseconds. */
export const utcNow = (): string => new Date().toISOString();

const CLOCK_BOOTTIME = 7;

/** Milliseconds since the machine was booted, its sleep included: a clock that nobody can set. */
export function bootMilliseconds(): number {
  const time = new BigInt64Array(2);
  clockGettime(CLOCK_BOOTTIME, time);
  return Number(time[0]) * 1000 + Number(time[1]) / 1e6;
}
