// How long a command takes to start: `esoteric-appliance --version` from the checkout, launcher included, against a Node that does
// nothing. Whole processes, both on the same Node.
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { setImmediate as breathe } from 'node:timers/promises';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { Failure } from '../../src/host/failure.ts';
import { type Benchmark, judge, median, type Progress, timed, words } from './benchmark.ts';

const name = 'start';
const target = { atMost: 2 } as const;
const launcher = resolve(import.meta.dirname, '../../scripts/esoteric-appliance');

export const start: Benchmark = {
  name,
  target: words(target),
  needs: {},
  run: (progress) => measureStart(40, progress),
};

export async function measureStart(rounds: number, { signal }: Progress): Promise<BenchResult> {
  const ours: number[] = [];
  const bare: number[] = [];
  for (let round = 0; round < rounds; round++) {
    ours.push(await timed(() => runToEnd(launcher, '--version')));
    bare.push(await timed(() => runToEnd(process.execPath, '-e', '0')));
    await breathe();
    signal.throwIfAborted();
  }
  return judge({
    name,
    value: median(ours),
    unit: 'ms',
    reference: { name: 'node -e 0', value: median(bare) },
    target,
  });
}

function runToEnd(command: string, ...args: string[]): void {
  const { status, error } = spawnSync(command, args, { stdio: 'ignore' });
  if (status !== 0) {
    throw new Failure('program-failed', `\`${command} ${args.join(' ')}\` ended with ${status}.`, {
      cause: error,
    });
  }
}
