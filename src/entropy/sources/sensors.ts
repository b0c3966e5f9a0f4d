// Sensors: what hwmon chips measure, and a deep walk over all of /sys. Values are public on the machine, so they are mixed in and
// not credited.
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { elapsedLow8, type NoiseSource, unavailable } from '../source.ts';
import { checksumOf, folded } from './kernel.ts';

const patienceNanoseconds = 5_000_000n;

export function hwmonSensors(root = '/sys/class/hwmon'): NoiseSource {
  const inputs = (): string[] =>
    list(root).flatMap((chip) =>
      list(join(root, chip))
        .filter((name) => /^(temp|in|fan|curr|power|energy|humidity)\d+_(input|average)$/.test(name))
        .map((name) => join(root, chip, name)),
    );
  return {
    name: 'hwmon-sensors',
    family: 'hardware',
    physical: 'last digits of temperatures, voltages and fan speeds, and the time their chips take to answer',
    pace: 'patient',
    exercised: 'recorded',
    available: () =>
      inputs().length > 0
        ? { ok: true }
        : unavailable('no sensor chip is known', 'Load its driver (sensors-detect finds it).'),
    open: () => filesSampler(inputs()),
  };
}

const mostFiles = 4096;
const deepest = 8;
/** Reading these starts something, waits, or never ends. */
const forbidden =
  /(^|\/)(tracing|debug|config\d*|resource\d*|rom|reset|remove|rescan|probe|trigger|wakeup_count|autosuspend|uevent|modalias)$|\/(security|firmware|cgroup|bpf|efivars|kernel\/debug)(\/|$)/;

/** Every readable small file below `root` whose content may change, found once, read in turn. */
export function sysWalk(root = '/sys'): NoiseSource {
  return {
    name: 'sys-walk',
    family: 'hardware',
    physical:
      'statistics, states and power counters of all devices in /sys, and the time their drivers take to answer',
    pace: 'patient',
    exercised: 'live',
    available: () =>
      list(root).length > 0 ? { ok: true } : unavailable(`${root} cannot be read`, `Mount sysfs on ${root}.`),
    open: () => filesSampler(walk(root)),
  };
}

/** A sample: checksum of one file's content and of the time it took to read it. */
function filesSampler(paths: readonly string[]): ReturnType<NoiseSource['open']> {
  const text = new Uint8Array(4096);
  let turn = 0;
  return {
    sample(into) {
      const begun = process.hrtime.bigint();
      let count = 0;
      for (let tries = 0; count < into.length && tries < 64; tries++) {
        const path = paths[turn++ % paths.length];
        if (path === undefined) break;
        const start = process.hrtime.bigint();
        const length = contentOf(path, text);
        if (length > 0) into[count++] = folded(checksumOf(text, length, elapsedLow8(start)));
        if (process.hrtime.bigint() - begun > patienceNanoseconds) break;
      }
      return count;
    },
    [Symbol.dispose]() {},
  };
}

function contentOf(path: string, into: Uint8Array): number {
  try {
    const fd = openSync(path, 'r');
    try {
      return readSync(fd, into, 0, into.length, 0);
    } finally {
      closeSync(fd);
    }
  } catch {
    return 0;
  }
}

/** Breadth first, links not followed, so that each device is met once. */
function walk(root: string): string[] {
  const found: string[] = [];
  const pending = [{ path: root, depth: 0 }];
  for (let next = pending.shift(); next !== undefined && found.length < mostFiles; next = pending.shift()) {
    for (const entry of entries(next.path)) {
      const path = join(next.path, entry.name);
      if (forbidden.test(path)) continue;
      if (entry.isDirectory() && next.depth < deepest) pending.push({ path, depth: next.depth + 1 });
      if (entry.isFile() && isReadable(path)) found.push(path);
    }
  }
  return found;
}

const entries = (path: string) => {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return [];
  }
};
const list = (path: string): string[] => {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
};
const isReadable = (path: string): boolean => {
  try {
    return (statSync(path).mode & 0o444) !== 0;
  } catch {
    return false;
  }
};
