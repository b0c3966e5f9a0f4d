// Maintenance windows as the custody log tells them, and the file that says until when none may be opened.
import type { CustodyRecord } from '../custody/chain.ts';
import { readIfPresent } from '../host/durable.ts';
import { utcNow } from '../host/time.ts';

/** A window that is over, or open still. */
export interface PastWindow {
  /** RFC 3339. */
  readonly opened: string;
  readonly ended: string | null;
  readonly why: string | null;
  readonly interfaces: readonly string[];
  readonly reason: string;
  readonly seconds: number;
  readonly flaps: number;
  /** Carrier losses that passed in it. */
  readonly flapsUsed: number;
}

export interface Forbidden {
  readonly since: string;
  readonly until: string;
  readonly reason: string;
}

const hour = 3_600_000;

export const namesIn = (told: unknown): string[] => (Array.isArray(told) ? told.map(String) : []);

/** Events of the custody log that `windowsOf` and `leftOpen` look at. */
export const windowEvents = [
  'maintenance-began',
  'planned-flap',
  'maintenance-ended',
  'zeroized',
  'deprovisioned',
] as const;

/** Windows as the custody log tells them, the oldest first. `onFlap` is called with each planned flap. Pure but for that. */
export function windowsOf(
  records: Iterable<CustodyRecord>,
  onFlap: (record: CustodyRecord) => void = () => {},
): PastWindow[] {
  const windows: PastWindow[] = [];
  for (const record of records) {
    const { event, time, detail } = record;
    const last = windows.at(-1);
    if (event === 'maintenance-began') {
      // Only one is open at a time: the disk may have been full when the last one ended.
      if (last?.ended === null)
        windows.splice(-1, 1, { ...last, ended: time, why: 'its end was not recorded' });
      windows.push({
        opened: time,
        ended: null,
        why: null,
        interfaces: namesIn(detail.interfaces),
        reason: String(detail.reason),
        seconds: Number(detail.seconds),
        flaps: Number(detail.flaps),
        flapsUsed: 0,
      });
    } else if (event === 'planned-flap') {
      onFlap(record);
      if (last?.ended === null)
        windows.splice(-1, 1, { ...last, flapsUsed: last.flapsUsed + Number(detail.flaps) });
    } else if (last?.ended === null && (event === 'maintenance-ended' || event === 'zeroized')) {
      const why = event === 'zeroized' ? zeroizedWhy : String(detail.why);
      windows.splice(-1, 1, { ...last, ended: time, why });
    }
  }
  return windows;
}

export const zeroizedWhy = 'the node was zeroized';

/** The last window, where nothing but a zeroize ended it in the log, or nothing at all: what it asks for is not recorded. Pure. */
export function leftOpen(records: readonly CustodyRecord[]): PastWindow | undefined {
  const since = records.slice(records.findLastIndex(({ event }) => event === 'maintenance-began') + 1);
  const closed = since.some(({ event }) => event === 'maintenance-ended' || event === 'deprovisioned');
  return closed ? undefined : windowsOf(records).at(-1);
}

/** The criticality window that lasts, as its file tells. Fails closed: what cannot be read forbids for a day. */
export function readForbidden(path: string): Forbidden | undefined {
  const text = readIfPresent(path);
  if (text === undefined) return undefined;
  try {
    const { since, until, reason } = JSON.parse(text) as Forbidden;
    const end = Date.parse(until);
    if (end <= Date.now()) return undefined;
    if (Number.isFinite(end)) return { since: String(since), until, reason: String(reason) };
  } catch {}
  const until = new Date(Date.now() + 24 * hour).toISOString();
  return { since: utcNow(), until, reason: 'its record cannot be read' };
}
