// A clock that is set back: CLOCK_REALTIME against CLOCK_BOOTTIME, which nobody can set (clock_gettime(2)).

export interface Clocks {
  /** Milliseconds of both. */
  readonly real: number;
  readonly boot: number;
}

/** How fast a clock may be slowed to steer it (adjtimex(2): 500 ppm), twice over. */
const steering = 0.001;

/** The farthest ahead that the clock has been, less what steering may have taken back since. */
export interface ClockReference {
  readonly ahead: number;
  readonly boot: number;
}

export const referenceOf = ({ real, boot }: Clocks): ClockReference => ({ ahead: real - boot, boot });

/** Seconds by which the clock went back, small steps added up; 0 where it did not. */
export function setBack(
  reference: ClockReference,
  now: Clocks,
): { readonly seconds: number; readonly reference: ClockReference } {
  const allowed = reference.ahead - steering * Math.max(0, now.boot - reference.boot);
  const ahead = now.real - now.boot;
  if (ahead >= allowed) return { seconds: 0, reference: { ahead, boot: now.boot } };
  return { seconds: (allowed - ahead) / 1000, reference: { ahead: allowed, boot: now.boot } };
}
