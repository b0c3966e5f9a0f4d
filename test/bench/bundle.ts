// A forensic bundle of a journal of 10^9 bytes (in export format), as a whole process, against `journalctl -o export | gzip -6` and
// `sha256sum` of what that gives. The journal is made by systemd-journal-remote. Peak memory is that of the process (VmHWM).
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { requireChild } from '../../src/host/child.ts';
import { Failure } from '../../src/host/failure.ts';
import { importJournal } from '../../src/journal/import.ts';
import { exported, journalEntry } from '../lab/export.ts';
import { type Benchmark, judge, median, type Progress, timed, words } from './benchmark.ts';
import { scratchDirectory } from './scratch.ts';

const name = 'bundle-1gb';
const memoryName = 'bundle-1gb-memory';
const target = { atMost: 1.15 } as const;
const longestMilliseconds = 600_000;
const launcher = resolve(import.meta.dirname, '../../scripts/esoteric-appliance');

export const bundleOfOneGigabyte: Benchmark = {
  name,
  alsoGives: [memoryName],
  target: words(target),
  needs: {
    programs: ['journalctl', 'gzip', 'sha256sum', 'bash'],
    files: ['/lib/systemd/systemd-journal-remote'],
  },
  // Smaller ones are for looking at, in less time.
  run: (progress) =>
    measureBundle({ rounds: 3, byteLength: Number(process.env.ESOTERIC_BENCH_JOURNAL ?? 1e9) }, progress),
};

export async function measureBundle(
  load: { readonly rounds: number; readonly byteLength: number },
  { signal, say }: Progress,
): Promise<BenchResult[]> {
  using scratch = scratchDirectory();
  const at = (file: string): string => join(scratch.path, file);
  say('making the journal');
  mkdirSync(at('journal'));
  writeExport(at('entries.export'), load.byteLength);
  await importJournal(at('entries.export'), at('journal/bench.journal'));
  rmSync(at('entries.export'));
  const bypassed = ['--no-tpm', '--no-sigstore', '--state-dir', at('state'), '--json'];
  await requireChild(launcher, ['provision', ...bypassed], { timeoutMilliseconds: longestMilliseconds });
  const collect = ['collect-forensics', '--journal-path', at('journal'), ...bypassed];
  const reference = `set -o pipefail; journalctl --directory=${at('journal')} --output=export --all | gzip -6 >${at('reference.gz')} && sha256sum ${at('reference.gz')}`;
  const samples = { ours: [] as number[], reference: [] as number[], memory: [] as number[] };
  for (let round = 0; round < load.rounds; round++) {
    say(`round ${round + 1} of ${load.rounds}`);
    samples.ours.push(
      (await timed(async () => samples.memory.push(await peakOf(launcher, collect, signal)))) / 1000,
    );
    samples.reference.push((await timed(() => peakOf('bash', ['-c', reference], signal))) / 1000);
    rmSync(at('state/bundles'), { recursive: true });
    mkdirSync(at('state/bundles'), { mode: 0o700 });
  }
  return [
    judge({
      name,
      value: median(samples.ours),
      unit: 's',
      reference: { name: 'journalctl | gzip -6, sha256sum', value: median(samples.reference) },
      target,
    }),
    judge({
      name: memoryName,
      value: Math.max(...samples.memory),
      unit: 'MB',
      reference: { name: 'the limit', value: 200 },
      target: { atMost: 1 },
    }),
  ];
}

/** Runs a program to its end. @returns the most memory that it had, in MB. */
async function peakOf(program: string, args: readonly string[], signal: AbortSignal): Promise<number> {
  const child = spawn(program, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    signal,
    killSignal: 'SIGKILL',
  });
  const { promise, resolve: settle, reject } = Promise.withResolvers<number | null>();
  child.on('error', reject);
  child.on('close', settle);
  let peak = 0;
  const look = setInterval(() => {
    peak = Math.max(peak, highWater(child.pid));
  }, 20);
  const status = await promise.finally(() => clearInterval(look));
  if (status !== 0) throw new Failure('program-failed', `\`${program}\` ended with ${status}.`);
  return peak;
}

/** 0 for a process that has just ended. */
function highWater(pid: number | undefined): number {
  try {
    const [, kilobytes = '0'] = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return (Number(kilobytes) * 1024) / 1e6;
  } catch {
    return 0;
  }
}

/** Entries as a node has them: mostly the same fields, some with addresses, a few with several lines. */
function writeExport(path: string, byteLength: number): void {
  const fd = openSync(path, 'wx');
  try {
    for (let n = 0, written = 0; written < byteLength; ) {
      const entries = Array.from({ length: 1000 }, () => journalEntry(n, fieldsOf(n++)));
      written += writeSync(fd, exported(entries));
    }
  } finally {
    closeSync(fd);
  }
}

function fieldsOf(n: number): [string, string][] {
  const unit = units[n % units.length] ?? 'sshd';
  const noise = Math.imul(n + 1, 0x9e3779b1) >>> 0;
  const pid = String(300 + (noise % 4000));
  return [
    ['_MACHINE_ID', 'fedcba9876543210fedcba9876543210'],
    ['_HOSTNAME', 'bench-node'],
    ['PRIORITY', String(3 + (n % 4))],
    ['SYSLOG_FACILITY', '3'],
    ['SYSLOG_IDENTIFIER', unit],
    ['_UID', '0'],
    ['_GID', '0'],
    ['_TRANSPORT', 'syslog'],
    ['_CAP_EFFECTIVE', '1ffffffffff'],
    ['_COMM', unit],
    ['_EXE', `/usr/sbin/${unit}`],
    ['_CMDLINE', `/usr/sbin/${unit} -D -f /etc/${unit}.conf`],
    ['_SYSTEMD_CGROUP', `/system.slice/${unit}.service`],
    ['_SYSTEMD_UNIT', `${unit}.service`],
    ['_SYSTEMD_SLICE', 'system.slice'],
    ['_SYSTEMD_INVOCATION_ID', '00112233445566778899aabbccddeeff'],
    ['_PID', pid],
    ['SYSLOG_PID', pid],
    ['_SOURCE_REALTIME_TIMESTAMP', String(1_700_000_000_000_000 + n * 1_000_003)],
    ['MESSAGE', messages[n % messages.length]?.(noise) ?? ''],
  ];
}

const units = ['sshd', 'NetworkManager', 'systemd-networkd', 'cron', 'kernel', 'firewalld', 'chronyd'];
const messages: readonly ((noise: number) => string)[] = [
  (noise) =>
    `Accepted publickey for operator from 10.${noise & 255}.7.${(noise >>> 8) & 255} port ${noise >>> 16} ssh2`,
  (noise) => `session ${noise} opened for user operator(uid=1000) by (uid=0)`,
  (noise) => `eth${noise & 3}: Gained carrier after ${noise >>> 12} ms`,
  (noise) =>
    `job ${noise.toString(16)} finished, ${noise & 4095} records in ${noise >>> 20} ms, next run at 16:${noise % 60}`,
  (noise) => `dhcp4 (eth0): state changed new lease, address=192.168.${noise & 255}.${(noise >>> 8) & 255}`,
  (noise) => `worker ${noise & 63} took request ${noise} of queue default/${noise >>> 24} and answered it`,
  (noise) => `trace of ${noise}:\n  at step ${noise & 15}\n  at step ${noise & 7}`,
];
