// The benchmarks by name, and the run: one after another, each on its own, so that none disturbs the next.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { closest } from 'fastest-levenshtein';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { exitStatus, Failure } from '../../src/host/failure.ts';
import type { Benchmark } from './benchmark.ts';
import { bundleOfOneGigabyte } from './bundle.ts';
import { carrierLossToWipe } from './carrier-loss.ts';
import { drbgOneMebibyte, drbgThirtyTwoBytes } from './drbg.ts';
import { firstSeed } from './first-seed.ts';
import { httpRandom } from './http-random.ts';
import { kernelStage } from './kernel-stage.ts';
import { provisioning } from './provision.ts';
import { quoting } from './quote.ts';
import { rawCredited } from './raw-credited.ts';
import { healthTests } from './rct-apt.ts';
import { signing } from './sign.ts';
import { start } from './start.ts';
import { streamOneGibibyte } from './stream.ts';
import { tpmStage } from './tpm-stage.ts';
import { unsealing } from './unseal.ts';
import { unsealingInC } from './unseal-c.ts';
import { unsealingNode } from './unseal-node.ts';
import { unsealingProcess } from './unseal-process.ts';
import { uploading } from './upload.ts';
import { verifyingBundle } from './verify-bundle.ts';

export const benchmarks: readonly Benchmark[] = [
  drbgOneMebibyte,
  drbgThirtyTwoBytes,
  healthTests,
  rawCredited,
  start,
  firstSeed,
  httpRandom,
  streamOneGibibyte,
  unsealing,
  unsealingInC,
  unsealingProcess,
  unsealingNode,
  quoting,
  signing,
  provisioning,
  bundleOfOneGigabyte,
  verifyingBundle,
  uploading,
  carrierLossToWipe,
  kernelStage,
  tpmStage,
];

/**
 * Runs the benchmarks named, or all. One that cannot run on this machine is an error when it was named, and else left out with
 * a note on stderr.
 * @throws Failure `benchmark-unknown`, usage; `benchmark-needs`; `interrupted`.
 */
export async function runBenchmarks(
  only: readonly string[],
  onStart: (name: string) => void,
): Promise<BenchResult[]> {
  const chosen = only.length === 0 ? benchmarks : only.map(named);
  const runnable = chosen.filter(({ name, needs }) => {
    const missing = whatIsMissing(needs);
    if (missing.length === 0) return true;
    const failure = new Failure('benchmark-needs', `${name} cannot run here: ${missing.join(', ')}.`, {
      remedy: 'Run `./scripts/install` as root, then repeat the benchmark as root.',
    });
    if (only.length > 0) throw failure;
    process.stderr.write(`left out: ${failure.message} ${failure.remedy}\n`);
    return false;
  });
  using interruption = untilInterrupted();
  const { signal } = interruption;
  const results: BenchResult[] = [];
  for (const { name, run } of runnable) {
    onStart(name);
    results.push(...[await run({ signal, say: (text) => onStart(`${name}: ${text}`) })].flat());
    signal.throwIfAborted();
  }
  return results;
}

function named(name: string): Benchmark {
  const found = benchmarks.find((benchmark) => benchmark.name === name);
  if (found !== undefined) return found;
  const names = benchmarks.map((benchmark) => benchmark.name);
  throw new Failure(
    'benchmark-unknown',
    `There is no benchmark "${name}"; did you mean \`${closest(name, names)}\`?`,
    { remedy: `Name some of: ${names.join(', ')}.`, status: exitStatus.usage },
  );
}

/** What this machine lacks, in words. */
export function whatIsMissing(needs: Benchmark['needs']): string[] {
  const folders = (process.env.PATH ?? '').split(':');
  const found = (program: string): boolean => folders.some((folder) => existsSync(join(folder, program)));
  return [
    ...(needs.root && process.geteuid?.() !== 0 ? ['it needs root'] : []),
    ...(needs.programs ?? []).filter((program) => !found(program)).map((program) => `no program ${program}`),
    ...(needs.files ?? []).filter((file) => !existsSync(file)).map((file) => `no ${file}`),
  ];
}

/** A signal that SIGINT or SIGTERM aborts, so that what a benchmark set up is taken down before the process ends. */
function untilInterrupted(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const abort = (): void =>
    controller.abort(
      new Failure('interrupted', 'The benchmark was interrupted.', {
        kept: 'What it had set up has been removed.',
      }),
    );
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.on(name, abort);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const name of signals) process.off(name, abort);
    },
  };
}
