// Kernel counters: an 8-bit checksum of what the kernel counts (interrupts, scheduling, memory). Anyone on the machine
// can read these, so they are mixed in and never credited.
import { closeSync, openSync, readSync } from 'node:fs';
import type { NoiseSource } from '../source.ts';

const files = ['/proc/interrupts', '/proc/softirqs', '/proc/stat', '/proc/vmstat', '/proc/schedstat'];
/** Each sample takes some 200 microseconds. */
const samplesAtOnce = 8;

export const kernelCounters: NoiseSource = {
  name: 'kernel-counters',
  family: 'counters',
  physical: 'arrival of interrupts, page faults and context switches since the last sample',
  available() {
    if (openReadable().map(closeSync).length > 0) return { ok: true };
    return {
      ok: false,
      why: 'none of the counters in /proc can be read',
      remedy: 'Mount /proc, and leave ProcSubset at "all" in the unit.',
    };
  },
  open() {
    const fds = openReadable();
    const text = new Uint8Array(65_536);
    return {
      sample(into) {
        const count = Math.min(into.length, samplesAtOnce);
        for (let i = 0; i < count; i++) {
          let checksum = 0x811c_9dc5;
          for (const fd of fds) {
            const length = readSync(fd, text, 0, text.length, 0);
            for (let at = 0; at < length; at++) checksum = Math.imul(checksum ^ (text[at] ?? 0), 0x0100_0193);
          }
          into[i] = (checksum ^ (checksum >>> 16)) & 0xff;
        }
        return count;
      },
      [Symbol.dispose]() {
        fds.splice(0).forEach(closeSync);
      },
    };
  },
};

function openReadable(): number[] {
  return files.flatMap((path) => {
    try {
      return [openSync(path, 'r')];
    } catch {
      return [];
    }
  });
}
