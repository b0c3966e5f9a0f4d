// The verification of a bundle with a gibibyte of journal, whole process, against `gzip -dc` and `sha256sum` of the same archive, whole
// processes too. ESOTERIC_BENCH_BYTES makes it smaller.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { archiveName, bundleFormat, type Manifest } from '../../src/forensics/format.ts';
import { packBundle } from '../../src/forensics/pack.ts';
import { Failure } from '../../src/host/failure.ts';
import { type Benchmark, judge, median, type Progress, timed, words } from './benchmark.ts';
import { scratchDirectory } from './scratch.ts';

const name = 'verify-1gb';
const target = { atMost: 1.3 } as const;
const launcher = resolve(import.meta.dirname, '../../scripts/esoteric-appliance');
const journal = 'journal/entries.jsonl';

/** Bytes of large benchmarks. */
export const largeLoad = (): number => Number(process.env.ESOTERIC_BENCH_BYTES ?? 1 << 30);

export const verifyingBundle: Benchmark = {
  name,
  target: words(target),
  needs: { programs: ['gzip', 'sha256sum', 'setpriv'] },
  run: (progress) => measureVerify({ rounds: 3, byteLength: largeLoad() }, progress),
};

export async function measureVerify(
  load: { readonly rounds: number; readonly byteLength: number },
  { signal, say }: Progress,
): Promise<BenchResult> {
  using scratch = scratchDirectory();
  say('making the bundle');
  const archive = await makeBundle(scratch.path, load.byteLength);
  const ours = [launcher, 'verify', archive, '--allow-bypassed', '--json'];
  const reference = ['sh', '-c', 'gzip -dc "$1" | sha256sum', 'sh', archive];
  const samples = { ours: [] as number[], reference: [] as number[] };
  for (let round = 0; round < load.rounds; round++) {
    say(`round ${round + 1} of ${load.rounds}`);
    samples.ours.push((await timed(() => runToEnd(ours, signal))) / 1000);
    samples.reference.push((await timed(() => runToEnd(reference, signal))) / 1000);
  }
  return judge({
    name,
    value: median(samples.ours),
    unit: 's',
    reference: { name: 'gzip -dc | sha256sum', value: median(samples.reference) },
    target,
  });
}

/** Unsigned, made with bypasses: everything that takes time with the size is looked at all the same. */
async function makeBundle(directory: string, byteLength: number): Promise<string> {
  const staging = join(directory, 'staging');
  mkdirSync(join(staging, 'journal'), { recursive: true });
  const { size, sha256 } = writeJournal(join(staging, journal), byteLength);
  const created = '2026-11-20T16:30:00.000Z';
  const manifest: Manifest = {
    format: bundleFormat,
    node: 'bench',
    sequence: 1,
    created,
    reason: 'a benchmark',
    assurance: { tpm: 'bypassed', sigstore: 'bypassed', standIns: [], notes: [] },
    files: [{ path: journal, size, sha256, source: 'the benchmark', redactions: [] }],
    collectors: [],
    redaction: null,
  };
  const archive = join(directory, archiveName('bench', 1, created));
  await packBundle(staging, manifest, archive);
  return archive;
}

/** Lines as a journal has them, which gzip makes some fifteen times smaller. */
function writeJournal(path: string, byteLength: number): { size: number; sha256: string } {
  const hash = createHash('sha256');
  const fd = openSync(path, 'w');
  let size = 0;
  try {
    for (let block = 0; size < byteLength; block += 1) {
      const lines = Array.from({ length: 4096 }, (_, at) => journalLine(block * 4096 + at));
      const text = Buffer.from(lines.join('')).subarray(0, byteLength - size);
      writeSync(fd, text);
      hash.update(text);
      size += text.length;
    }
  } finally {
    closeSync(fd);
  }
  return { size, sha256: hash.digest('hex') };
}

function journalLine(number: number): string {
  const noise = Math.imul(number, 0x9e3779b1) >>> 0;
  return `{"__REALTIME_TIMESTAMP":"${1_763_656_200_000_000 + number * 1009}","_PID":"${noise % 32_768}","_SYSTEMD_UNIT":"NetworkManager.service","PRIORITY":"${noise % 8}","MESSAGE":"device (eth${noise % 4}): state change: activated -> deactivating (reason 'connection-removed', id ${noise.toString(16)})"}\n`;
}

/** Runs a command whose output goes to /dev/null; it ends with this process, however that ends, and when interrupted. */
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
