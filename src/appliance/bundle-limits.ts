// How many bundles are made, and how much of the disk they may take. A zeroize gets its bundle whatever their number; a reserve stays
// free for it, and some of that for the custody log and the alerts, which matter more than any bundle.
import { readdirSync, statfsSync, statSync } from 'node:fs';
import { segmentsOf } from '../custody/segments.ts';
import { isDiskFull } from '../forensics/member-file.ts';
import { Room } from '../forensics/room.ts';
import { Failure } from '../host/failure.ts';
import type { Config } from './config.ts';
import type { StateLayout } from './state-layout.ts';

/** Who asks for a bundle: an operator, the interlock, a cause that the policy has told, an alert by its severity, the timer. */
export type Trigger = 'hand' | 'zeroize' | 'observed' | 'alert' | 'timer';

const hour = 3_600_000;
/** Beside the custody log: what the small members, the manifest and the signature take. */
const leastBytes = 2 << 20;
/** Blocks that are not full, directories, headers in the archive. */
const slack = 1 << 20;

/** @throws Failure `bundles-limited` where as many as are allowed were made within an hour. */
export function requireTurn(config: Config, layout: StateLayout, trigger: Trigger, now = Date.now()): void {
  const { per_hour: most } = config.forensics;
  if (most === 0 || trigger === 'zeroize') return;
  const made = bundleTimes(layout.bundles).filter((time) => Math.abs(now - time) < hour);
  if (made.length < most) return;
  const next = new Date(Math.min(...made) + hour).toISOString().replace(/\.\d+Z$/, 'Z');
  throw new Failure(
    'bundles-limited',
    `${made.length} bundles were made within an hour, and no more may be.`,
    {
      kept: `They lie in ${layout.bundles}. A zeroize gets its bundle in any case.`,
      remedy: `Wait until ${next}, or raise forensics.per_hour (now ${most}).`,
    },
  );
}

/** When the bundles that lie there were made, as their names tell: whoever made them, and across restarts. */
function bundleTimes(directory: string): number[] {
  return readdirSync(directory).flatMap((name) => {
    const [, date, time] = /-\d{6,}-(\d{8})T(\d{6})Z\.tar\.gz(?:\.age)?$/.exec(name) ?? [];
    if (date === undefined || time === undefined) return [];
    const utc = `${date.replace(/(....)(..)(..)/, '$1-$2-$3')}T${time.replace(/(..)(..)(..)/, '$1:$2:$3')}Z`;
    return [Date.parse(utc)];
  });
}

export interface DiskRoom {
  /** Bytes that are free. */
  readonly free: number;
  /** Of these, what this trigger has to leave. */
  readonly keptFree: number;
}

/** The reserve stays whole, unless it is what it is kept for: then a quarter of it stays. */
export function diskRoom(config: Config, layout: StateLayout, trigger: Trigger): DiskRoom {
  const { bavail, bsize } = statfsSync(layout.bundles);
  const { reserve_bytes: reserve } = config.forensics;
  const isWorthIt = trigger === 'hand' || trigger === 'zeroize';
  return { free: bavail * bsize, keptFree: isWorthIt ? Math.floor(reserve / 4) : reserve };
}

/** @throws Failure `disk-full` where not even the custody log and the small members would fit. */
export function roomFor(config: Config, layout: StateLayout, trigger: Trigger): Room {
  const least = custodyBytes(layout) + leastBytes;
  const free = (): number => {
    const disk = diskRoom(config, layout, trigger);
    return disk.free - disk.keptFree - slack;
  };
  const room = new Room(free, least);
  if (room.left < least) throw diskFull(layout);
  return room;
}

const custodyBytes = ({ custody }: StateLayout): number =>
  [...segmentsOf(custody), custody].reduce(
    (sum, path) => sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0),
    0,
  );

export const diskFull = ({ bundles }: StateLayout, cause?: unknown): Failure =>
  new Failure('disk-full', `The disk at ${bundles} is too full for a bundle.`, {
    kept: 'Earlier bundles and the custody log are intact; nothing half made was left.',
    remedy: 'Make room there (bundles that were delivered may go), then collect again.',
    cause,
  });

export const isForFullDisk = (error: unknown): boolean =>
  isDiskFull(error) || (error instanceof Error && error.cause !== undefined && isForFullDisk(error.cause));
