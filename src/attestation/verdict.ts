// Verdicts of appraisal (RFC 9334): proven, failed, or not proven and why.
import { reasonOf } from '../host/failure.ts';

/** One claim's outcome. `detail` is a sentence that says what was compared, or why it did not hold. */
export interface Appraisal {
  readonly result: 'proven' | 'failed' | 'not-proven';
  readonly detail: string;
}

/** An appraisal made of several checks: proven when all are, failed when one is, with that one's detail. */
export interface CheckedAppraisal extends Appraisal {
  readonly checks: Readonly<Record<string, Appraisal>>;
}

/** The whole of several checks: the first that failed, else the first that is not proven, else `provenDetail`. */
export function conclude(checks: Record<string, Appraisal>, provenDetail: string): CheckedAppraisal {
  const outcomes = Object.values(checks);
  const worst =
    outcomes.find(({ result }) => result === 'failed') ??
    outcomes.find(({ result }) => result === 'not-proven');
  return { ...(worst ?? proven(provenDetail)), checks };
}

export function proven(detail: string): Appraisal {
  return { result: 'proven', detail };
}

export function failed(detail: string): Appraisal {
  return { result: 'failed', detail };
}

export function notProven(detail: string): Appraisal {
  return { result: 'not-proven', detail };
}

/** A claim that would be proven, but for something that its proof stands on. */
export function weakened<A extends Appraisal>(appraisal: A, why: string | undefined): A {
  return appraisal.result === 'proven' && why !== undefined
    ? { ...appraisal, ...notProven(`${appraisal.detail} ${why}`) }
    : appraisal;
}

/** What a parser gave, or why it gave nothing. */
export type Attempt<T> = { readonly value: T } | { readonly value?: undefined; readonly reason: string };

export function attempt<T>(work: () => T): Attempt<T> {
  try {
    return { value: work() };
  } catch (thrown) {
    return { reason: reasonOf(thrown) };
  }
}
