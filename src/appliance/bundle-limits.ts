// How many bundles are made, and how much of the disk they may take. A zeroize gets its bundle whatever their number; a reserve stays
// free for it, and some of that for the custody log and the alerts, which matter more than any bundle.
import { statfsSync, statSync } from 'node:fs';
import { findAside } from '../custody/aside.ts';
import { segmentsOf } from '../custody/segments.ts';
import { bundleBegun } from '../forensics/format.ts';
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

/**
 * The custody log is asked, which tells of each that was begun, across restarts, whatever became of it.
 * @throws Failure `bundles-limited` where as many as are allowed were begun within an hour.
 */
export async function requireTurn(
  config: Config,
  { custody, bundles }: StateLayout,
  trigger: Trigger,
  now = Date.now(),
): Promise<void> {
  const { per_hour: most } = config.forensics;
  if (most === 0 || trigger === 'zeroize') return;
  const since = new Date(now - hour).toISOString();
  const { records } = await findAside(custody, { events: [bundleBegun], since });
  const begun = records
    .map(({ time }) => Date.parse(time))
    .filter((time) => Math.abs(now - time) < hour)
    .toSorted((a, b) => a - b);
  const last = begun.at(-most); // When an hour has passed since that one, one fewer than allowed is left.
  if (last === undefined) return;
  const next = new Date(last + hour).toISOString().replace(/\.\d+Z$/, 'Z');
  throw new Failure(
    'bundles-limited',
    `${begun.length} bundles were begun within an hour, and no more may be.`,
    {
      kept: `What is kept of them lies in ${bundles}. A zeroize gets its bundle in any case.`,
      remedy: `Wait until ${next}, or raise forensics.per_hour (now ${most}).`,
    },
  );
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
