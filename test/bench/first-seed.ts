// From the start of a process to the first byte that rests on a full seed: `stream --bytes 1` on a state directory without assessments, so
// that the brief assessment is part of it.
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { Failure } from '../../src/host/failure.ts';
import { type Benchmark, judge, median, type Progress, words } from './benchmark.ts';
import { scratchDirectory } from './scratch.ts';

const name = 'first-seed';
const target = { atMost: 1 } as const;
const launcher = resolve(import.meta.dirname, '../../scripts/esoteric-appliance');

export const firstSeed: Benchmark = {
  name,
  target: `${words(target)} one second`,
  needs: {},
  run: (progress) => measureFirstSeed(11, progress),
};

export async function measureFirstSeed(rounds: number, { signal, say }: Progress): Promise<BenchResult> {
  using scratch = scratchDirectory();
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    say(`round ${round + 1} of ${rounds}`);
    samples.push((await untilFirstByte(scratch.path)) / 1000);
    signal.throwIfAborted();
  }
  return judge({
    name,
    value: median(samples),
    unit: 's',
    reference: { name: 'one second', value: 1 },
    target,
  });
}

function untilFirstByte(stateDirectory: string): Promise<number> {
  const { promise, resolve: settle, reject } = Promise.withResolvers<number>();
  const began = performance.now();
  const child = spawn(
    launcher,
    ['stream', '--bytes', '1', '--no-tpm', '--no-sigstore', '--state-dir', stateDirectory],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  let first = 0;
  child.stdout.once('data', () => {
    first = performance.now() - began;
  });
  child.on('error', reject);
  child.on('close', (status) => {
    if (status === 0 && first > 0) settle(first);
    else reject(new Failure('program-failed', `\`stream --bytes 1\` ended with ${status}.`));
  });
  return promise;
}
