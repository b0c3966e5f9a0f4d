// Memory timing: how long a few steps of a random walk over 32 MiB take, in nanoseconds modulo 256.
import type { NoiseSource } from '../source.ts';
import { timedSource } from './timed.ts';

const words = 8 << 20;
const steps = 4;

export const memoryTiming: NoiseSource = timedSource({
  name: 'memory-timing',
  family: 'hardware',
  physical: 'DRAM refresh, cache and TLB misses, contention on the memory bus: a random walk over 32 MiB',
  prepare() {
    // Written once, or every page would be the one shared page of zeros and the walk would stay in the cache.
    let memory = new Uint32Array(words).fill(0x9e37_79b9);
    let at = 0;
    return {
      act() {
        for (let step = 0; step < steps; step++) {
          const value = memory[at] ?? 0;
          memory[at] = (Math.imul(value, 1_664_525) + 1_013_904_223) | 0;
          at = (Math.imul(at, 22_695_477) + value + 1) & (words - 1);
        }
      },
      release() {
        memory = new Uint32Array(0);
      },
    };
  },
});
