// The kernel family: an 8-bit checksum of what the kernel counts. Anyone on the machine can read these counters, so such sources
// are mixed in and never credited.
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { elapsedLow8, type NoiseSource, type Sampler, unavailable } from '../source.ts';

/** Each sample takes some 100 microseconds. */
const samplesAtOnce = 8;

/** FNV-1a, continued from `checksum`. */
export function checksumOf(bytes: Uint8Array, length: number, checksum: number): number {
  let sum = checksum;
  for (let at = 0; at < length; at++) sum = Math.imul(sum ^ (bytes[at] ?? 0), 0x0100_0193);
  return sum;
}

/** Eight bits of a checksum. */
export const folded = (checksum: number): number =>
  (checksum ^ (checksum >>> 8) ^ (checksum >>> 16) ^ (checksum >>> 24)) & 0xff;

function counterSource(name: string, physical: string, files: readonly string[]): NoiseSource {
  return {
    name,
    family: 'kernel',
    physical,
    pace: 'patient',
    exercised: 'live',
    available() {
      if (openReadable(files).map(closeSync).length > 0) return { ok: true };
      return unavailable(
        `none of ${files.join(', ')} can be read`,
        'Mount /proc, and leave ProcSubset at "all" in the unit.',
      );
    },
    open: () => checksumSampler(openReadable(files)),
  };
}

/** One sample a checksum over the files as they read now, and over how long that took: counters stand still on an idle machine. */
function checksumSampler(fds: number[]): Sampler {
  const text = new Uint8Array(65_536);
  return {
    sample(into) {
      const count = Math.min(into.length, samplesAtOnce);
      for (let i = 0; i < count; i++) {
        const start = process.hrtime.bigint();
        let checksum = 0x811c_9dc5;
        for (const fd of fds) checksum = checksumOf(text, readSync(fd, text, 0, text.length, 0), checksum);
        into[i] = folded(Math.imul(checksum ^ elapsedLow8(start), 0x0100_0193));
      }
      return count;
    },
    [Symbol.dispose]() {
      fds.splice(0).forEach(closeSync);
    },
  };
}

function openReadable(paths: readonly string[]): number[] {
  return paths.flatMap((path) => {
    try {
      return [openSync(path, 'r')];
    } catch {
      return [];
    }
  });
}

export const kernelSources: readonly NoiseSource[] = [
  counterSource('kernel-counters', 'context switches, softirqs and time slices since the last sample', [
    '/proc/stat',
    '/proc/softirqs',
    '/proc/schedstat',
    '/proc/loadavg',
    '/proc/diskstats',
    '/proc/net/dev',
  ]),
  counterSource('vmstat', 'page faults, reclaim and allocation since the last sample', [
    '/proc/vmstat',
    '/proc/meminfo',
  ]),
  counterSource('interrupts', 'arrival of interrupts since the last sample', ['/proc/interrupts']),
  counterSource('sysctl-counters', 'open files, directory entries, inodes and keys in the kernel', [
    '/proc/sys/fs/dentry-state',
    '/proc/sys/fs/inode-state',
    '/proc/sys/fs/file-nr',
    '/proc/sys/kernel/ns_last_pid',
    '/proc/sys/net/netfilter/nf_conntrack_count',
    '/proc/key-users',
    '/proc/slabinfo',
  ]),
];

const mostProcesses = 24;

/** Times, faults and switches of other processes. */
export const processTable: NoiseSource = {
  name: 'process-table',
  family: 'kernel',
  physical: 'run time, page faults and context switches of the processes of this machine',
  pace: 'patient',
  exercised: 'live',
  available: () =>
    processes().length > 1
      ? { ok: true }
      : unavailable('/proc shows no other process', 'Set ProtectProc to "default" in the unit.'),
  open() {
    const text = new Uint8Array(4096);
    let from = 0;
    return {
      sample(into) {
        const ids = processes();
        const count = Math.min(into.length, 2);
        for (let i = 0; i < count; i++) {
          const start = process.hrtime.bigint();
          let checksum = 0x811c_9dc5;
          for (let n = 0; n < Math.min(mostProcesses, ids.length); n++) {
            checksum = checksumOfFile(`/proc/${ids[(from + n) % ids.length]}/stat`, text, checksum);
            checksum = checksumOfFile(`/proc/${ids[(from + n) % ids.length]}/schedstat`, text, checksum);
          }
          from += mostProcesses;
          into[i] = folded(Math.imul(checksum ^ elapsedLow8(start), 0x0100_0193));
        }
        return count;
      },
      [Symbol.dispose]() {},
    };
  },
};

const processes = (): string[] => {
  try {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
};

/** A process may end between the listing and the reading. */
function checksumOfFile(path: string, text: Uint8Array, checksum: number): number {
  try {
    const content = readFileSync(path);
    text.set(content.subarray(0, text.length));
    return checksumOf(text, Math.min(content.length, text.length), checksum);
  } catch {
    return Math.imul(checksum, 0x0100_0193);
  }
}
