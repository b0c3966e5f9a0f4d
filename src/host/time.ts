// Two clocks, passed in wherever a test must steer them.

/** CLOCK_MONOTONIC in microseconds, comparable between threads and processes of one boot. */
export const monotonicMicros = (): number => Number(process.hrtime.bigint() / 1000n);

/** RFC 3339 in UTC with milliseconds. */
export const utcNow = (): string => new Date().toISOString();
