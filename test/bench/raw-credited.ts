// Credited bits a second that one core gathers from what jitterentropy times as well (the timing family, and memory), health tests
// included, against what that is published to deliver on one core: 7 kB of full entropy a second (oversampling rate 3). The credit is
// what counts on this machine.
import { setImmediate as breathe } from 'node:timers/promises';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { examineBriefly } from '../../src/entropy/assessment/examine.ts';
import { creditInUse } from '../../src/entropy/assessment/record.ts';
import { noiseSources } from '../../src/entropy/catalogue.ts';
import { creditFor, loadCreditPolicy } from '../../src/entropy/credit.ts';
import { HealthTests } from '../../src/entropy/health.ts';
import type { NoiseSource } from '../../src/entropy/source.ts';
import { type Benchmark, judge, median, type Progress, words } from './benchmark.ts';
import { scratchDirectory } from './scratch.ts';

const name = 'raw-credited';
const target = { atLeast: 1 } as const;
const published = 7 * 8; // kbit/s
const turnLength = 1024;

const isMeant = ({ name, family, pace }: NoiseSource): boolean =>
  name === 'memory-timing' || (family === 'timing' && pace === 'quick');

export const rawCredited: Benchmark = {
  name,
  target: words(target),
  needs: {},
  run: (progress) => measureRawCredit(41, progress),
};

export async function measureRawCredit(rounds: number, { signal, say }: Progress): Promise<BenchResult> {
  using scratch = scratchDirectory();
  using opened = new DisposableStack();
  const policy = loadCreditPolicy();
  const sources = noiseSources({ directory: scratch.path })
    .filter(isMeant)
    .map((source) => {
      say(`assessing ${source.name}`);
      const granted = creditFor(policy, source.name);
      return {
        credit: creditInUse(granted, examineBriefly(source, granted.credit)),
        sampler: opened.use(source.open()),
        tests: new HealthTests(granted.expected),
      };
    });
  const samples = new Uint8Array(turnLength);
  const rates: number[] = [];
  for (let round = -3; round < rounds; round++) {
    const began = performance.now();
    let bits = 0;
    for (const { credit, sampler, tests } of sources) {
      const taken = sampler.sample(samples);
      tests.accept(samples.subarray(0, taken));
      bits += taken * credit;
    }
    // Bits a millisecond are kbit/s. The first rounds are the start-up tests'.
    if (round >= 0) rates.push(bits / (performance.now() - began));
    await breathe();
    signal.throwIfAborted();
  }
  return judge({
    name,
    value: median(rates),
    unit: 'kbit/s',
    reference: { name: 'jitterentropy, as published', value: published },
    target,
  });
}
