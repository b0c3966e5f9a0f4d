import { describe, expect, it, type TestContext } from 'vitest';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { Failure } from '../../src/host/failure.ts';
import { benchmarks, runBenchmarks, whatIsMissing } from './bench.ts';
import { type Benchmark, judge, median, type Progress, quantile, quantileInterval } from './benchmark.ts';
import { bundleOfOneGigabyte, measureBundle } from './bundle.ts';
import { carrierLossToWipe, measureCarrierLoss } from './carrier-loss.ts';
import { measureDrbg, measureSmallRequests } from './drbg.ts';
import { measureFirstSeed } from './first-seed.ts';
import { measureHttp } from './http-random.ts';
import { kernelStage, measureKernelStage } from './kernel-stage.ts';
import { measureProvision, provisioning } from './provision.ts';
import { measureQuote, quoting } from './quote.ts';
import { measureRawCredit } from './raw-credited.ts';
import { measureHealth } from './rct-apt.ts';
import { measureSign, signing } from './sign.ts';
import { measureStart } from './start.ts';
import { measureStream, streamOneGibibyte } from './stream.ts';
import { measureTpmStage, tpmStage } from './tpm-stage.ts';
import { measureUnseal, unsealing } from './unseal.ts';
import { measureUnsealInC, unsealingInC } from './unseal-c.ts';
import { measureUnsealNode, unsealingNode } from './unseal-node.ts';
import { measureUnsealProcess, unsealingProcess } from './unseal-process.ts';
import { measureUpload, uploading } from './upload.ts';
import { measureVerify, verifyingBundle } from './verify-bundle.ts';

const undisturbed: Progress = { signal: new AbortController().signal, say: () => {} };

function skipWhereMissing(context: TestContext, { needs }: Benchmark): void {
  const missing = whatIsMissing(needs);
  context.skip(missing.length > 0, missing.join(', '));
}

/** Numbers that can be numbers of a measurement, and a verdict that follows from them; how good they are is not asked. */
function expectWellFormed(results: BenchResult | readonly BenchResult[], count: number): void {
  const list = [results].flat();
  expect(list).toHaveLength(count);
  for (const { name, value, unit, reference, ratio, target, met, limit } of list) {
    expect(benchmarks.flatMap((benchmark) => [benchmark.name, ...(benchmark.alsoGives ?? [])])).toContain(
      name,
    );
    expect(value).toBeGreaterThan(0);
    expect(reference.value).toBeGreaterThan(0);
    expect(reference.name).not.toBe('');
    expect(unit).toMatch(/^(MB\/s|MB|s|ms|us|kbit\/s|requests\/(s|ms))$/);
    expect(ratio).toBe(value / reference.value);
    const [, sign, bound, most] = /^(<=|>=) ([\d.]+)x(?: and <= (\d+) us)?/.exec(target) ?? [];
    const ratioMet = sign === '<=' ? ratio <= Number(bound) : ratio >= Number(bound);
    const limitMet = most === undefined || value <= Number(most);
    expect(met).toBe(ratioMet && limitMet);
    expect(limit).toEqual(most === undefined ? undefined : { value: Number(most), met: limitMet, ratioMet });
  }
}

describe('the benchmarks', () => {
  it('have names of their own, and a target each', () => {
    expect(new Set(benchmarks.map(({ name }) => name)).size).toBe(benchmarks.length);
    for (const { target } of benchmarks) expect(target).toMatch(/^[<>]= [\d.]+x/);
  });

  it('run by name, and say which one is running', async () => {
    const started: string[] = [];
    const results = await runBenchmarks(['rct-apt'], (name) => started.push(name));
    expect(started).toEqual(['rct-apt']);
    expectWellFormed(results, 1);
  });

  it('refuse a name that is none, before any is run, and say the nearest', async () => {
    const started: string[] = [];
    const refused = runBenchmarks(['start', 'unsael'], (name) => started.push(name));
    await expect(refused).rejects.toMatchObject({ code: 'benchmark-unknown', status: 2 });
    await expect(refused).rejects.toThrow('`unseal`');
    expect(started).toEqual([]);
  });

  it('name what this machine lacks', () => {
    expect(whatIsMissing({ programs: ['no-such-program', 'sh'], files: ['/dev/null', '/no/such'] })).toEqual([
      'no program no-such-program',
      'no /no/such',
    ]);
  });

  it('end between rounds when they are interrupted', async () => {
    const signal = AbortSignal.abort(new Failure('interrupted', 'The benchmark was interrupted.'));
    const load = { rounds: 1000, requests: 1, byteLength: 64 };
    await expect(measureDrbg(load, { ...undisturbed, signal })).rejects.toMatchObject({
      code: 'interrupted',
    });
  });
});

describe('a measurement gives a value and a reference', () => {
  it('of the generator', async () => {
    expectWellFormed(await measureDrbg({ rounds: 3, requests: 1, byteLength: 1 << 16 }, undisturbed), 2);
  });

  it('of small requests to the generator', async () => {
    expectWellFormed(await measureSmallRequests({ rounds: 3, requests: 50 }, undisturbed), 1);
  });

  it('of raw samples and what they count', async () => {
    expectWellFormed(await measureRawCredit(5, undisturbed), 1);
  });

  it('of the first seed of a process', async () => {
    expectWellFormed(await measureFirstSeed(1, undisturbed), 1);
  });

  it('of random bytes over HTTP', async () => {
    expectWellFormed(await measureHttp({ rounds: 1, milliseconds: 100, connections: 4 }, undisturbed), 1);
  });

  it('of the health tests', async () => {
    expectWellFormed(await measureHealth({ rounds: 3, byteLength: 1 << 16 }, undisturbed), 1);
  });

  it('of the start of a command', async () => {
    expectWellFormed(await measureStart(2, undisturbed), 1);
  });

  it('of a stream', async (context) => {
    skipWhereMissing(context, streamOneGibibyte);
    expectWellFormed(await measureStream({ rounds: 1, byteLength: 1 << 20 }, undisturbed), 2);
  });

  it('of the verification of a bundle', async (context) => {
    skipWhereMissing(context, verifyingBundle);
    expectWellFormed(await measureVerify({ rounds: 1, byteLength: 1 << 20 }, undisturbed), 1);
  });

  it('of an upload', async (context) => {
    skipWhereMissing(context, uploading);
    expectWellFormed(await measureUpload({ rounds: 1, byteLength: 20 << 20 }, undisturbed), 1);
  });

  it('of unsealing', async (context) => {
    skipWhereMissing(context, unsealing);
    expectWellFormed(await measureUnseal({ blocks: 1, runs: 2 }, undisturbed), 1);
  });

  it.for([
    ['of unsealing beside C', unsealingInC, measureUnsealInC],
    ['of unsealing as a whole process', unsealingProcess, measureUnsealProcess],
    ['of unsealing as a node does', unsealingNode, measureUnsealNode],
    ['of quoting', quoting, measureQuote],
    ['of signing', signing, measureSign],
    ['of provisioning', provisioning, measureProvision],
    ['of the kernel stage of a zeroize', kernelStage, measureKernelStage],
    ['of the TPM stage of a zeroize', tpmStage, measureTpmStage],
  ] as const)('%s', async ([, benchmark, measure], context) => {
    skipWhereMissing(context, benchmark);
    // One of each shows that the commands on both sides succeed.
    expectWellFormed(await measure({ blocks: 1, runs: 1 }, undisturbed), 1);
  });

  it('of a bundle, its time and its memory', async (context) => {
    skipWhereMissing(context, bundleOfOneGigabyte);
    expectWellFormed(await measureBundle({ rounds: 1, byteLength: 2_000_000 }, undisturbed), 2);
  });

  it('of pulled cables, which the interlock and the C program both notice', async (context) => {
    skipWhereMissing(context, carrierLossToWipe);
    const results = await measureCarrierLoss(2, undisturbed).catch((error: unknown) => {
      context.skip(error instanceof Failure && error.code === 'state-in-use', 'the benchmark runs elsewhere');
      throw error;
    });
    expectWellFormed(results, 4);
    for (const { value, spread } of results) {
      expect(spread?.value.p95).toBe(value);
      for (const { p50, p95, p99, max, p95Interval, samples } of [spread?.value, spread?.reference].flatMap(
        (each) => each ?? [],
      )) {
        expect(samples).toBe(2);
        const rising = [p50, p95, p99, max];
        expect(rising).toEqual(rising.toSorted((a, b) => a - b));
        expect(p95Interval[0]).toBeLessThanOrEqual(p95);
        expect(p95Interval[1]).toBeGreaterThanOrEqual(p95);
      }
    }
  });

  it('of pulled cables also while every core, or the main thread, is busy', async (context) => {
    skipWhereMissing(context, carrierLossToWipe);
    for (const load of ['busy', 'blocked'] as const) {
      const results = await measureCarrierLoss(1, undisturbed, load).catch((error: unknown) => {
        context.skip(
          error instanceof Failure && error.code === 'state-in-use',
          'the benchmark runs elsewhere',
        );
        throw error;
      });
      expectWellFormed(results, 4);
      for (const { reference, limit } of results) {
        expect(reference.name).toContain(load);
        expect(limit?.value).toBe(load === 'busy' ? 5000 : 2000);
      }
    }
  });
});

describe('a figure', () => {
  const figure = { name: 'start', unit: 'ms', reference: { name: 'other', value: 10 } };

  it('meets a bound that it lies on, and fails beyond it', () => {
    expect(judge({ ...figure, value: 20, target: { atMost: 2 } })).toMatchObject({ ratio: 2, met: true });
    expect(judge({ ...figure, value: 20.1, target: { atMost: 2 } })).toMatchObject({ met: false });
    expect(judge({ ...figure, value: 8, target: { atLeast: 0.8 } })).toMatchObject({ ratio: 0.8, met: true });
    expect(judge({ ...figure, value: 7.9, target: { atLeast: 0.8 } })).toMatchObject({ met: false });
  });

  it('with a limit of its own meets both, and says which of the two it fails', () => {
    const limited = { ...figure, target: { atMost: 2 }, limit: 15 } as const;
    expect(judge({ ...limited, value: 15 })).toMatchObject({ met: true, target: '<= 2x and <= 15 ms' });
    expect(judge({ ...limited, value: 18 })).toMatchObject({
      met: false,
      limit: { value: 15, met: false, ratioMet: true },
    });
    const slow = { ...limited, limit: 50, value: 30 };
    expect(judge(slow)).toMatchObject({ met: false, limit: { met: true, ratioMet: false } });
  });

  it('has a quantile that lies in its interval of confidence, as often as it should', () => {
    // 400 numbers spread evenly: the interval of the p95 covers 380 and reaches about 1.96 * sqrt(19) = 8.5 ranks.
    const samples = Array.from({ length: 400 }, (_, n) => n + 1);
    expect(quantileInterval(samples, 0.95)).toEqual([372, 389]);
    expect(quantileInterval([5], 0.95)).toEqual([5, 5]);
  });

  it('is the quantile by nearest rank, whatever the order', () => {
    const hundred = Array.from({ length: 100 }, (_, n) => 100 - n);
    expect(quantile(hundred, 0.95)).toBe(95);
    expect(median([3, 1, 2])).toBe(2);
    expect(quantile([7], 0.95)).toBe(7);
    expect(() => median([])).toThrow('samples');
  });
});
