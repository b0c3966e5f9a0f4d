// What goes first where too much waits, or is kept: what lies elsewhere already, then what matters least, then what is oldest. So
// the newest security events stay longest. Pure.
import { atLeast, type Severity, severityCode } from './alert.ts';

export interface Waiting {
  readonly bytes: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly severity: Severity;
  /** A copy lies elsewhere, and was read back there. */
  readonly copied: boolean;
}

export interface Limits {
  readonly bytes: number;
  readonly ageMilliseconds: number;
}

export type WhyGivenUp = 'age' | 'size';

/** As urgent as this, a thing that lies nowhere else does not go by age alone. */
const securityEvent: Severity = 'critical';

/** By size the last one is never given up, however large it is. */
export function toGiveUp<T extends Waiting>(
  waiting: readonly T[],
  limits: Limits,
  now: number,
): { readonly item: T; readonly why: WhyGivenUp }[] {
  const order = waiting.toSorted(
    (a, b) =>
      Number(b.copied) - Number(a.copied) ||
      severityCode(b.severity) - severityCode(a.severity) ||
      a.at - b.at,
  );
  const old = order.filter(
    ({ at, copied, severity }) =>
      now - at > limits.ageMilliseconds && (copied || !atLeast(severity, securityEvent)),
  );
  const young = order.filter((item) => !old.includes(item));
  let excess = young.reduce((sum, { bytes }) => sum + bytes, 0) - limits.bytes;
  const large: T[] = [];
  for (const item of young.slice(0, -1)) {
    if (excess <= 0) break;
    excess -= item.bytes;
    large.push(item);
  }
  return [
    ...old.map((item) => ({ item, why: 'age' as const })),
    ...large.map((item) => ({ item, why: 'size' as const })),
  ];
}
