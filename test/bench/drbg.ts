// The conditioned output's last step, CTR_DRBG on one core, against OpenSSL's own in `crypto.randomFillSync` and against reading
// the kernel's. All three fill the same buffer.
import { randomBytes, randomFillSync } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { setImmediate as breathe } from 'node:timers/promises';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { CtrDrbg, seedLength } from '../../src/entropy/drbg.ts';
import { SecretArena } from '../../src/host/arena.ts';
import { monotonicMicros } from '../../src/host/time.ts';
import { type Benchmark, judge, median, type Progress, words } from './benchmark.ts';

const name = 'drbg-1mib';
const smallName = 'drbg-32b';
const smallTarget = { atLeast: 0.5 } as const;
const targets = { randomFill: { atLeast: 0.8 }, urandom: { atLeast: 6 } } as const;

export interface DrbgLoad {
  readonly rounds: number;
  /** Requests of `byteLength` in each round. */
  readonly requests: number;
  readonly byteLength: number;
}

export const drbgOneMebibyte: Benchmark = {
  name,
  target: `${words(targets.randomFill)} crypto.randomFillSync, ${words(targets.urandom)} /dev/urandom`,
  needs: {},
  run: (progress) => measureDrbg({ rounds: 41, requests: 16, byteLength: 1 << 20 }, progress),
};

export const drbgThirtyTwoBytes: Benchmark = {
  name: smallName,
  target: `${words(smallTarget)} crypto.randomBytes(32)`,
  needs: {},
  run: (progress) => measureSmallRequests({ rounds: 41, requests: 4000 }, progress),
};

/** Requests of a key's size, where what counts is the way there and back. */
export async function measureSmallRequests(
  load: { readonly rounds: number; readonly requests: number },
  { signal }: Progress,
): Promise<BenchResult> {
  using arena = SecretArena.allocate({ allowSwappable: true });
  using drbg = new CtrDrbg(arena, monotonicMicros);
  using seed = arena.take(seedLength, 'benchmark seed');
  randomFillSync(seed.bytes);
  drbg.instantiate(seed);
  const out = new Uint8Array(32);
  const [ours, theirs]: [number[], number[]] = [[], []];
  const rate = (began: number): number => load.requests / (performance.now() - began);
  for (let round = 0; round <= load.rounds; round++) {
    const beganOurs = performance.now();
    for (let n = 0; n < load.requests; n++) drbg.generate(out);
    const oursNow = rate(beganOurs);
    const beganTheirs = performance.now();
    for (let n = 0; n < load.requests; n++) randomBytes(32);
    const theirsNow = rate(beganTheirs);
    if (round > 0) {
      ours.push(oursNow);
      theirs.push(theirsNow);
    }
    await breathe();
    signal.throwIfAborted();
  }
  return judge({
    name: smallName,
    value: median(ours),
    unit: 'requests/ms',
    reference: { name: 'crypto.randomBytes(32)', value: median(theirs) },
    target: smallTarget,
  });
}

export async function measureDrbg(load: DrbgLoad, { signal }: Progress): Promise<BenchResult[]> {
  using arena = SecretArena.allocate({ allowSwappable: true });
  using drbg = new CtrDrbg(arena, monotonicMicros);
  using seed = arena.take(seedLength, 'benchmark seed');
  randomFillSync(seed.bytes);
  drbg.instantiate(seed);
  using urandom = readable('/dev/urandom');
  const out = new Uint8Array(load.byteLength);
  const contenders = [
    { samples: [] as number[], fill: () => drbg.generate(out) },
    { samples: [] as number[], fill: () => void randomFillSync(out) },
    { samples: [] as number[], fill: () => void readSync(urandom.fd, out) },
  ] as const;
  // The first round warms up and does not count.
  for (let round = 0; round <= load.rounds; round++) {
    for (const { samples, fill } of contenders) {
      const began = performance.now();
      for (let n = 0; n < load.requests; n++) fill();
      const seconds = (performance.now() - began) / 1000;
      if (round > 0) samples.push((load.requests * load.byteLength) / 1e6 / seconds);
    }
    await breathe();
    signal.throwIfAborted();
  }
  const [ours, randomFill, kernel] = contenders.map(({ samples }) => median(samples));
  const against = (
    reference: string,
    value = 0,
    target: (typeof targets)[keyof typeof targets],
  ): BenchResult =>
    judge({ name, value: ours ?? 0, unit: 'MB/s', reference: { name: reference, value }, target });
  return [
    against('crypto.randomFillSync', randomFill, targets.randomFill),
    against('read of /dev/urandom', kernel, targets.urandom),
  ];
}

function readable(path: string): Disposable & { readonly fd: number } {
  const fd = openSync(path, 'r');
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}
