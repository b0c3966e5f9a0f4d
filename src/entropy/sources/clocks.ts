// The timing family: what one core and its clocks do to a fixed, short piece of work.
import { poll } from '../../host/libc.ts';
import { alwaysAvailable, elapsedLow8, type NoiseSource } from '../source.ts';
import { timedSource } from './timed.ts';

const rounds = 40;

export const clockJitter: NoiseSource = timedSource({
  name: 'clock-jitter',
  family: 'timing',
  physical: 'phase between the clock of the core and the clock of the timer, pipeline and cache state',
  prepare() {
    let work = 1;
    return {
      act() {
        for (let round = 0; round < rounds; round++) work = (Math.imul(work, 1_664_525) + 1_013_904_223) | 0;
      },
      release() {
        work = 0;
      },
    };
  },
});

/** Nanoseconds of one count. */
const spell = 700n;

/** How far a counter gets while the monotonic clock advances by a fixed time: the converse of clock jitter. */
export const counterJitter: NoiseSource = {
  name: 'counter-jitter',
  family: 'timing',
  physical:
    'how often the monotonic clock can be read while it advances by 700 ns: clock granularity, pipeline, interrupts',
  pace: 'quick',
  exercised: 'live',
  available: alwaysAvailable,
  open() {
    return {
      sample(into) {
        for (let i = 0; i < into.length; i++) {
          const end = process.hrtime.bigint() + spell;
          let count = 0;
          let now = end;
          do {
            now = process.hrtime.bigint();
            count += 1;
          } while (now < end);
          into[i] = (count * 37 + Number((now - end) & 0xffn)) & 0xff;
        }
        return into.length;
      },
      [Symbol.dispose]() {},
    };
  },
};

const sleepMilliseconds = 0.02;

export const sleepJitter: NoiseSource = {
  name: 'sleep-jitter',
  family: 'timing',
  physical: 'timer interrupts, run queue, idle-state exit latency of the core: the lateness of a 20 us sleep',
  pace: 'patient',
  exercised: 'live',
  available: alwaysAvailable,
  open() {
    const nobodyWakes = new Int32Array(new SharedArrayBuffer(4));
    return {
      sample(into) {
        const count = Math.min(into.length, 32);
        for (let i = 0; i < count; i++) {
          const start = process.hrtime.bigint();
          Atomics.wait(nobodyWakes, 0, 0, sleepMilliseconds);
          into[i] = elapsedLow8(start);
        }
        return count;
      },
      [Symbol.dispose]() {},
    };
  },
};

export const systemCallTiming: NoiseSource = timedSource({
  name: 'system-call-timing',
  family: 'timing',
  physical:
    'kernel entry and exit (poll of nothing), branch predictors and caches that other work has disturbed',
  samplesAtOnce: 512,
  prepare() {
    const nothing = new Uint8Array(8);
    return { act: () => void poll(nothing, 0, 0) };
  },
});
