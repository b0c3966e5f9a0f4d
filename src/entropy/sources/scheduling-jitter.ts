// Scheduling jitter: how long the kernel takes to wake this thread from a 20-microsecond sleep, in ns modulo 256.
import { alwaysAvailable, elapsedLow8, type NoiseSource } from '../source.ts';

const sleepMilliseconds = 0.02;
/** Each sample takes about 80 microseconds. */
const samplesAtOnce = 32;

export const schedulingJitter: NoiseSource = {
  name: 'scheduling-jitter',
  family: 'timing',
  physical: 'timer interrupts, run queue, idle-state exit latency of the core',
  available: alwaysAvailable,
  open() {
    const nobodyWakes = new Int32Array(new SharedArrayBuffer(4));
    return {
      sample(into) {
        const count = Math.min(into.length, samplesAtOnce);
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
