// The form that most sources have: one action, and how long it takes, in nanoseconds modulo 256.
import { type Availability, alwaysAvailable, elapsedLow8, type Family, type NoiseSource } from '../source.ts';

export interface TimedAction {
  readonly act: () => void;
  readonly release?: () => void;
}

export interface TimedSource {
  readonly name: string;
  readonly family: Family;
  readonly physical: string;
  readonly pace?: NoiseSource['pace'];
  readonly exercised?: NoiseSource['exercised'];
  readonly available?: () => Availability;
  /** As many as take a few milliseconds; all that are asked for unless told. */
  readonly samplesAtOnce?: number;
  /** Prepares the action; called when the source is opened. @throws when the source has gone away. */
  readonly prepare: () => TimedAction;
}

export function timedSource(spec: TimedSource): NoiseSource {
  const { name, family, physical, prepare } = spec;
  return {
    name,
    family,
    physical,
    pace: spec.pace ?? 'quick',
    exercised: spec.exercised ?? 'live',
    available: spec.available ?? alwaysAvailable,
    open() {
      const { act, release } = prepare();
      return {
        sample(into) {
          const count = Math.min(into.length, spec.samplesAtOnce ?? into.length);
          for (let i = 0; i < count; i++) {
            const start = process.hrtime.bigint();
            act();
            into[i] = elapsedLow8(start);
          }
          return count;
        },
        [Symbol.dispose]: release ?? (() => {}),
      };
    },
  };
}
