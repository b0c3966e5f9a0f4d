// Maintenance windows as the node keeps them: opened and closed by root through the control socket, recorded, never extended, and
// not opened at all while they are forbidden (a criticality window). What outlives a process is recovered from the custody log.
import { rmSync } from 'node:fs';
import type { CustodyRecord } from '../custody/chain.ts';
import type { CustodyLog } from '../custody/log.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { bootMilliseconds, utcNow } from '../host/time.ts';
import type { Interlock, InterlockEvent, MaintenanceWindow } from '../interlock/interlock.ts';
import type { Announcer } from './announce.ts';
import type { StateLayout } from './node-record.ts';

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

export interface MaintenanceOptions {
  readonly layout: StateLayout;
  readonly node: string;
  readonly custody: CustodyLog;
  readonly announcer: Announcer;
  readonly interlock: () => Interlock;
  readonly pause: (why: string) => void;
  readonly resume: () => void;
}

export type WindowClosed = Extract<InterlockEvent, { kind: 'window-closed' }>;
const hour = 3_600_000;

export class Maintenance {
  readonly #options: MaintenanceOptions;
  #forbidden: (Forbidden & { readonly deadline: number }) | undefined;

  constructor(options: MaintenanceOptions) {
    this.#options = options;
    const kept = readForbidden(options.layout.forbidden);
    if (kept !== undefined) {
      const left = Date.parse(kept.until) - Date.now();
      this.#forbidden = { ...kept, deadline: bootMilliseconds() + left };
    }
  }

  /** After a start: closes the window of a process that died, and counts its flaps of the last hour. */
  recover(records: Iterable<CustodyRecord>): void {
    const past = windowsOf(records, (record) => this.#recent(record));
    const open = past.find(({ ended }) => ended === null);
    if (open !== undefined) {
      const { interfaces, opened } = open;
      this.#options.custody.append('maintenance-ended', { why: 'its process ended', interfaces, opened });
      this.#options.announcer.event(
        'MAINTENANCE_END',
        `The window opened at ${opened} ended with its process.`,
        {
          why: 'its process ended',
          interfaces,
        },
      );
    }
  }

  /** @throws Failure `maintenance-forbidden`, and as `Interlock.openWindow`. */
  begin(request: Parameters<Interlock['openWindow']>[0]): MaintenanceWindow {
    const { forbidden } = this;
    if (forbidden !== null) {
      throw new Failure(
        'maintenance-forbidden',
        `No maintenance window may be opened until ${forbidden.until}: ${forbidden.reason}.`,
        {
          kept: 'Every flap counts, as before.',
          remedy: 'Wait, or end it with `esoteric-appliance maintenance allow`.',
        },
      );
    }
    const window = this.#options.interlock().openWindow(request);
    this.#options.custody.append('maintenance-began', { ...window });
    this.#options.pause(`maintenance: ${window.reason}`);
    const { interfaces, seconds, flaps } = window;
    this.#options.announcer.event('MAINTENANCE_BEGIN', `A maintenance window is open for ${seconds} s.`, {
      interfaces,
      seconds,
      flaps,
    });
    return window;
  }

  end(): MaintenanceWindow {
    return this.#options.interlock().closeWindow('the operator ended it');
  }

  /** While this lasts, nothing opens a window. @throws Failure `window-open`, `maintenance-forbidden` where it lasts longer already. */
  forbid(seconds: number, reason: string): Forbidden {
    const { layout, custody, interlock } = this.#options;
    const { window } = interlock();
    if (window !== undefined) {
      throw new Failure('window-open', `A maintenance window is open: ${window.reason}.`, {
        remedy: 'End it with `esoteric-appliance maintenance end`, then forbid others.',
      });
    }
    const deadline = bootMilliseconds() + seconds * 1000;
    if ((this.#forbidden?.deadline ?? 0) > deadline && this.forbidden !== null) {
      throw new Failure('maintenance-forbidden', `Maintenance is forbidden longer than that already.`, {
        remedy: 'End that with `esoteric-appliance maintenance allow` first.',
      });
    }
    const forbidden = {
      since: utcNow(),
      until: new Date(Date.now() + seconds * 1000).toISOString(),
      reason,
    };
    writeDurably(layout.forbidden, `${JSON.stringify(forbidden)}\n`);
    custody.append('maintenance-forbidden', { ...forbidden });
    this.#options.announcer.event(
      'MAINTENANCE_FORBIDDEN',
      `No maintenance window can be opened until ${forbidden.until}.`,
      { until: forbidden.until },
    );
    this.#forbidden = { ...forbidden, deadline };
    return forbidden;
  }

  allow(): { readonly allowed: true } {
    const was = this.forbidden;
    rmSync(this.#options.layout.forbidden, { force: true });
    this.#forbidden = undefined;
    if (was !== null) this.#options.custody.append('maintenance-allowed', { until: was.until });
    return { allowed: true };
  }

  /** The criticality window that lasts; null while windows may be opened. */
  get forbidden(): Forbidden | null {
    if (this.#forbidden === undefined || bootMilliseconds() >= this.#forbidden.deadline) return null;
    const { since, until, reason } = this.#forbidden;
    return { since, until, reason };
  }

  /** A tap may have gone in meanwhile: keys on these links are to rotate, and their peers to appraise again. */
  closed({ why, because, window }: WindowClosed, zeroized: boolean): void {
    const { custody, announcer, node, resume } = this.#options;
    const { interfaces, opened, reason } = window;
    const { sequence } = custody.append('maintenance-ended', {
      why,
      interfaces,
      opened,
      ask: ['rotate', 'appraise'],
    });
    if (!zeroized) resume();
    announcer.event(
      'MAINTENANCE_END',
      `The maintenance window ended: ${why}. Rotate the keys of its links, and appraise their peers again.`,
      { why, interfaces },
    );
    if (because !== 'limit') return;
    announcer.alert({
      key: `${node}-window-${sequence}`,
      severity: 'error',
      title: `${node}: a maintenance window was ended early`,
      body: `${why}. The window ("${reason}") is closed; the next flap zeroizes the node.`,
      facts: { interfaces: interfaces.join(', ') },
    });
  }

  /** Planned flaps count for an hour, also across a restart. */
  #recent({ time, detail }: CustodyRecord): void {
    const age = Date.now() - Date.parse(time);
    if (!(age < hour) || typeof detail.interface !== 'string') return;
    this.#options.interlock().remember(detail.interface, Number(detail.flaps), Math.max(0, age));
  }
}

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
      windows.push({
        opened: time,
        ended: null,
        why: null,
        interfaces: Array.isArray(detail.interfaces) ? detail.interfaces.map(String) : [],
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
      const why = event === 'zeroized' ? 'the node was zeroized' : String(detail.why);
      windows.splice(-1, 1, { ...last, ended: time, why });
    }
  }
  return windows;
}

/** Fails closed: what cannot be read forbids for a day. */
export function readForbidden(path: string): Forbidden | undefined {
  const text = readIfPresent(path);
  if (text === undefined) return undefined;
  try {
    const { since, until, reason } = JSON.parse(text) as Forbidden;
    if (Number.isFinite(Date.parse(until))) return { since: String(since), until, reason: String(reason) };
  } catch {}
  const until = new Date(Date.now() + 24 * hour).toISOString();
  return { since: utcNow(), until, reason: 'its record cannot be read' };
}
