// Clock jitter: how long a short, fixed piece of work takes, in nanoseconds modulo 256.
import { alwaysAvailable, elapsedLow8, type NoiseSource } from '../source.ts';

const rounds = 40;

export const clockJitter: NoiseSource = {
  name: 'clock-jitter',
  family: 'timing',
  physical: 'phase between the clock of the core and the clock of the timer, pipeline and cache state',
  available: alwaysAvailable,
  open() {
    let work = 1;
    return {
      sample(into) {
        for (let i = 0; i < into.length; i++) {
          const start = process.hrtime.bigint();
          for (let round = 0; round < rounds; round++)
            work = (Math.imul(work, 1_664_525) + 1_013_904_223) | 0;
          into[i] = elapsedLow8(start);
        }
        return into.length;
      },
      [Symbol.dispose]() {
        work = 0;
      },
    };
  },
};
