// When a failed delivery is tried again, and when it is given up: exponential back-off with full jitter.
import type { Job } from './job.ts';

export interface RetryLimits {
  readonly baseMilliseconds: number;
  readonly capMilliseconds: number;
  /** Dead-lettered when reached. */
  readonly maxAttempts: number;
  /** Dead-lettered when older, but only after `leastAttempts`: a clock that leaps at boot must not cost an alert. */
  readonly maxAgeMilliseconds: number;
  readonly leastAttempts: number;
}

/** An alert is stale after three days. A bundle is evidence: it is kept and retried until it is uploaded. */
export const retryLimits: Readonly<Record<Job['kind'], RetryLimits>> = {
  alert: {
    baseMilliseconds: 1000,
    capMilliseconds: 300_000,
    maxAttempts: 2000,
    maxAgeMilliseconds: 259_200_000,
    leastAttempts: 20,
  },
  bundle: {
    baseMilliseconds: 1000,
    capMilliseconds: 300_000,
    maxAttempts: Number.POSITIVE_INFINITY,
    maxAgeMilliseconds: Number.POSITIVE_INFINITY,
    leastAttempts: 0,
  },
};

/** Milliseconds to wait after the `attempts`th failure; `random` is uniform in [0, 1). */
export const backoffMilliseconds = (attempts: number, limits: RetryLimits, random: number): number =>
  Math.floor(
    random * Math.min(limits.capMilliseconds, limits.baseMilliseconds * 2 ** Math.min(attempts, 40)),
  );

export const isExhausted = (attempts: number, ageMilliseconds: number, limits: RetryLimits): boolean =>
  attempts >= limits.maxAttempts ||
  (ageMilliseconds > limits.maxAgeMilliseconds && attempts >= limits.leastAttempts);
