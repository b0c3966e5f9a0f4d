// The health tests of SP 800-90B 4.4 (RCT and APT) over random samples against reading the same bytes in the same language: the loop that every
// raw sample of every noise source goes through.
import { randomFillSync } from 'node:crypto';
import { setImmediate as breathe } from 'node:timers/promises';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { HealthTests } from '../../src/entropy/health.ts';
import { type Benchmark, judge, median, type Progress, words } from './benchmark.ts';

const name = 'rct-apt';
const target = { atLeast: 0.1 } as const;

export const healthTests: Benchmark = {
  name,
  target: words(target),
  needs: {},
  run: (progress) => measureHealth({ rounds: 41, byteLength: 4 << 20 }, progress),
};

export async function measureHealth(
  load: { readonly rounds: number; readonly byteLength: number },
  { signal }: Progress,
): Promise<BenchResult> {
  const samples = randomFillSync(new Uint8Array(load.byteLength));
  const tests = new HealthTests(1, { lag: false });
  const tested: number[] = [];
  const read: number[] = [];
  let seen = 0;
  const rate = (began: number): number => load.byteLength / 1e3 / (performance.now() - began);
  // The first rounds warm up and do not count.
  for (let round = -3; round < load.rounds; round++) {
    const beganTests = performance.now();
    seen ^= tests.accept(samples);
    const testRate = rate(beganTests);
    const beganRead = performance.now();
    seen ^= sum(samples);
    const readRate = rate(beganRead);
    if (round >= 0) {
      tested.push(testRate);
      read.push(readRate);
    }
    await breathe();
    signal.throwIfAborted();
  }
  if (tests.state !== 'healthy') throw new Error(`Random samples were found ${tests.state} (${seen}).`);
  return judge({
    name,
    value: median(tested),
    unit: 'MB/s',
    reference: { name: 'reading the same bytes', value: median(read) },
    target,
    note: '(and >= 300 MB/s on an idle core)',
  });
}

function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i++) total = (total + (bytes[i] as number)) | 0;
  return total;
}
