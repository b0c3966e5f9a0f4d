// The decision about causes that somebody observes (a contact, a clock, a counter), pure: what is seen of one cause, against the
// policy's rule for it and what was seen before. Carriers have a decision of their own, which knows no patience: decide.ts.
import { type Cause, causes, type ZeroizeLevel } from './causes.ts';

export interface Rule {
  /** `none`: it is told, and nothing is wiped. */
  readonly level: ZeroizeLevel | 'none';
  /** How long it must last before it counts. */
  readonly debounceMilliseconds: number;
  /** The least value that counts. */
  readonly threshold: number;
}

export interface Observation {
  readonly cause: Cause;
  /** How bad it is: failures, frames, milliseconds, a confidence. 0 is well; what is not a number is as bad as can be. */
  readonly value: number;
  /** Milliseconds on a clock that nobody sets. */
  readonly at: number;
}

/** Of each cause by its place in `causes`: since when it has lasted (NaN: it does not), and whether it has been told. */
export interface Standing {
  readonly since: readonly number[];
  readonly told: readonly boolean[];
  readonly struck: boolean;
}

/** `over`: it lasted, and lasts no more. `also`: it would strike, and another cause has struck already. */
export type Verdict = 'nothing' | 'waiting' | 'over' | 'tell' | 'strike' | 'also';

export const nothingSeen: Standing = {
  since: causes.map(() => Number.NaN),
  told: causes.map(() => false),
  struck: false,
};

/** Each spell of a cause is told, or strikes, once. */
export function evaluate(
  rule: Rule,
  before: Standing,
  { cause, value, at }: Observation,
): { readonly verdict: Verdict; readonly standing: Standing } {
  const place = causes.indexOf(cause);
  const since = before.since[place] ?? Number.NaN;
  const lasts = !Number.isNaN(since);
  if (value < rule.threshold || value === 0) {
    if (!lasts) return { verdict: 'nothing', standing: before };
    const standing = {
      ...before,
      since: before.since.with(place, Number.NaN),
      told: before.told.with(place, false),
    };
    return { verdict: 'over', standing };
  }
  const began = lasts ? since : at;
  const standing = lasts ? before : { ...before, since: before.since.with(place, at) };
  if (before.told[place] === true) return { verdict: 'nothing', standing };
  if (at - began < rule.debounceMilliseconds) return { verdict: 'waiting', standing };
  const told = { ...standing, told: standing.told.with(place, true) };
  if (rule.level === 'none') return { verdict: 'tell', standing: told };
  return before.struck
    ? { verdict: 'also', standing: told }
    : { verdict: 'strike', standing: { ...told, struck: true } };
}
