// System-call timing: how long the kernel takes to look up the metadata of the root directory, in ns modulo 256.
import { statSync } from 'node:fs';
import { alwaysAvailable, elapsedLow8, type NoiseSource } from '../source.ts';

const samplesAtOnce = 256;

export const systemCallTiming: NoiseSource = {
  name: 'system-call-timing',
  family: 'timing',
  physical: 'kernel entry and exit, branch predictors and caches that other work has disturbed',
  available: alwaysAvailable,
  open() {
    return {
      sample(into) {
        const count = Math.min(into.length, samplesAtOnce);
        for (let i = 0; i < count; i++) {
          const start = process.hrtime.bigint();
          statSync('/');
          into[i] = elapsedLow8(start);
        }
        return count;
      },
      [Symbol.dispose]() {},
    };
  },
};
