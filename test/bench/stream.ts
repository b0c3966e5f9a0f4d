// A gibibyte of output, whole processes from start to end, seeding from noise sources included, against `head` on /dev/urandom and
// `openssl rand`. The output goes to /dev/null.
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { Failure } from '../../src/host/failure.ts';
import { type Benchmark, judge, median, type Progress, timed, words } from './benchmark.ts';
import { scratchDirectory } from './scratch.ts';

const name = 'stream-1g';
const gibibyte = 1 << 30;
const targets = { head: { atMost: 0.5 }, openssl: { atMost: 2 } } as const;
const launcher = resolve(import.meta.dirname, '../../scripts/esoteric-appliance');

export const streamOneGibibyte: Benchmark = {
  name,
  target: `${words(targets.head)} head, ${words(targets.openssl)} openssl rand`,
  needs: { programs: ['head', 'openssl', 'setpriv'] },
  run: (progress) => measureStream({ rounds: 5, byteLength: gibibyte }, progress),
};

export async function measureStream(
  load: { readonly rounds: number; readonly byteLength: number },
  { signal, say }: Progress,
): Promise<BenchResult[]> {
  using scratch = scratchDirectory();
  const bytes = String(load.byteLength);
  const contenders = [
    {
      samples: [] as number[],
      words: [launcher, 'stream', '--bytes', bytes, '--no-tpm', '--no-sigstore', '--state-dir', scratch.path],
    },
    { samples: [] as number[], words: ['head', '-c', bytes, '/dev/urandom'] },
    { samples: [] as number[], words: ['openssl', 'rand', bytes] },
  ];
  for (let round = 0; round < load.rounds; round++) {
    say(`round ${round + 1} of ${load.rounds}`);
    for (const { samples, words: command } of contenders) {
      samples.push((await timed(() => runToEnd(command, signal))) / 1000);
    }
  }
  const [ours = 0, head = 0, openssl = 0] = contenders.map(({ samples }) => median(samples));
  const against = (
    reference: string,
    value: number,
    target: (typeof targets)[keyof typeof targets],
  ): BenchResult => judge({ name, value: ours, unit: 's', reference: { name: reference, value }, target });
  return [
    against('head -c /dev/urandom', head, targets.head),
    against('openssl rand', openssl, targets.openssl),
  ];
}

/** Runs a command that writes to /dev/null; it ends with this process, however that ends, and when interrupted. */
async function runToEnd(command: readonly string[], signal: AbortSignal): Promise<void> {
  const { promise, resolve: settle, reject } = Promise.withResolvers<number | null>();
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const end = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', end);
  child.on('error', reject);
  child.on('close', settle);
  const status = await promise.finally(() => signal.removeEventListener('abort', end));
  signal.throwIfAborted();
  if (status !== 0) throw new Failure('program-failed', `\`${command.join(' ')}\` ended with ${status}.`);
}
