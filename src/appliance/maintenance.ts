// Maintenance windows as the node keeps them: opened and closed by root through the control socket, recorded, never extended, and
// not opened at all while they are forbidden (a criticality window). What outlives a process is recovered from the custody log.
import { rmSync } from 'node:fs';
import type { CustodyRecord } from '../custody/chain.ts';
import type { CustodyLog } from '../custody/log.ts';
import { writeDurably } from '../host/durable.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { bootMilliseconds, utcNow } from '../host/time.ts';
import type { Interlock } from '../interlock/interlock.ts';
import type { MaintenanceWindow, OpenedWindow, WindowClosed, WindowRequest } from '../interlock/window.ts';
import type { Announcer } from './announce.ts';
import { type Asked, type Asking, askedOf, askingEvents, type LinkKeys, type Want, wants } from './asked.ts';
import type { NodeRecord } from './node-record.ts';
import { recordPast } from './record.ts';
import type { StateLayout } from './state-layout.ts';
import {
  type Forbidden,
  leftOpen,
  namesIn,
  type PastWindow,
  readForbidden,
  windowEvents,
  windowsOf,
  zeroizedWhy,
} from './windows.ts';

export interface MaintenanceOptions {
  readonly layout: StateLayout;
  readonly record: Pick<NodeRecord, 'node' | 'tpm'>;
  readonly custody: CustodyLog;
  readonly announcer: Announcer;
  readonly interlock: () => Interlock;
  readonly pause: (why: string) => void;
  readonly resume: () => void;
  /** The keys of the node's links. */
  readonly linkKeys: () => LinkKeys;
  /** What of the node's own appraisal failed; null where it has no TPM. */
  readonly appraise: () => Promise<string[] | null>;
  readonly zeroized: () => boolean;
}

/** What nobody has been asked for yet. */
interface Unasked {
  readonly why: string;
  readonly interfaces: readonly string[];
  /** Of the record of the window's end; where there is none, when the window was opened. */
  readonly number: number | string;
}

/** Events of the custody log that a start looks at. */
export const recoveredEvents: readonly string[] = [...new Set([...windowEvents, ...askingEvents, 'started'])];

const hour = 3_600_000;

export class Maintenance {
  readonly #options: MaintenanceOptions;
  /** Of the custody log: what windows ask for. */
  readonly #asking: Asking[] = [];
  #unasked: Unasked | undefined;
  #appraised: Promise<void> = Promise.resolve();
  #forbidden: (Forbidden & { readonly deadline: number }) | undefined;

  constructor(options: MaintenanceOptions) {
    this.#options = options;
    const kept = readForbidden(options.layout.forbidden);
    if (kept !== undefined) {
      const left = Date.parse(kept.until) - Date.now();
      this.#forbidden = { ...kept, deadline: bootMilliseconds() + left };
    }
  }

  /** At a start: counts the flaps of the last hour, and closes the window of a process that died. */
  recover(records: Iterable<CustodyRecord>): void {
    const all = [...records];
    windowsOf(all, (record) => this.#recent(record));
    this.#asking.push(...all.filter(({ event }) => askingEvents.has(event)));
    const open = leftOpen(all);
    if (open === undefined) {
      const ended = endedByZeroize(all);
      if (ended !== undefined) {
        const interfaces = namesIn(ended.detail.interfaces);
        this.#unasked = { why: zeroizedWhy, interfaces, number: ended.sequence };
      }
      return;
    }
    const why = open.why ?? 'its process ended';
    const { interfaces, opened } = open;
    this.#options.announcer.event('MAINTENANCE_END', `The window opened at ${opened} ended: ${why}.`, {
      why,
      interfaces,
    });
    this.#unasked = { why, interfaces, number: this.#ended(why, { interfaces, opened }) ?? opened };
  }

  /** Once the node has its keys: asks for what a window that its process has not outlived has left to be done. */
  askAgain(): void {
    if (this.#unasked !== undefined) this.#ask(this.#unasked);
    this.#unasked = undefined;
  }

  /** @throws Failure `maintenance-forbidden`, and as `Interlock.openWindow`. */
  begin(request: WindowRequest): OpenedWindow {
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
    const { flapsThisHour, ...window } = this.#options.interlock().openWindow(request);
    try {
      this.#options.custody.append('maintenance-began', { ...window });
    } catch (error) {
      this.#options.interlock().closeWindow('it could not be recorded');
      throw error;
    }
    this.#options.pause(`maintenance: ${window.reason}`);
    const { interfaces, seconds, flaps } = window;
    this.#options.announcer.event('MAINTENANCE_BEGIN', `A maintenance window is open for ${seconds} s.`, {
      interfaces,
      seconds,
      flaps,
    });
    return { ...window, flapsThisHour };
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
    this.#forbidden = { ...forbidden, deadline }; // Also where it cannot be recorded, as it is after a restart.
    custody.append('maintenance-forbidden', { ...forbidden });
    this.#options.announcer.event(
      'MAINTENANCE_FORBIDDEN',
      `No maintenance window can be opened until ${forbidden.until}.`,
      { until: forbidden.until },
    );
    return forbidden;
  }

  /** Never unrecorded. @throws Failure `custody-unwritable`: it stays forbidden. */
  allow(): { readonly allowed: true } {
    const was = this.forbidden;
    if (was !== null) this.#options.custody.append('maintenance-allowed', { until: was.until });
    rmSync(this.#options.layout.forbidden, { force: true });
    this.#forbidden = undefined;
    if (was !== null)
      this.#options.announcer.event(
        'MAINTENANCE_ALLOWED',
        `Maintenance windows can be opened again, before ${was.until}.`,
        { until: was.until },
      );
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
    const { announcer, record, resume } = this.#options;
    const { interfaces, opened, reason } = window;
    if (!zeroized) resume();
    announcer.event('MAINTENANCE_END', `The maintenance window ended: ${why}.`, { why, interfaces });
    const sequence = this.#ended(why, { interfaces, opened });
    if (!zeroized) this.#ask({ why, interfaces, number: sequence ?? opened }); // A zeroized node asks when it is back.
    if (because !== 'limit') return;
    announcer.alert({
      key: `${record.node}-window-${sequence ?? opened}`,
      severity: 'error',
      title: `${record.node}: a maintenance window was ended early`,
      body: `${why}. The window ("${reason}") is closed. A carrier that was down then, or the next flap, zeroizes the node.`,
      facts: { interfaces: interfaces.join(', ') },
    });
  }

  /** What is still to be done after windows that have ended. */
  get asked(): Asked[] {
    const { linkKeys, record, layout } = this.#options;
    const { enrolment } = layout;
    return askedOf(this.#asking, { keys: linkKeys(), tpm: record.tpm !== null, enrolment });
  }

  /** Somebody has done it, or has decided that it need not be done. @throws Failure `nothing-asked`, `usage`. */
  settle(what: string, reason: string): Asked {
    const settled = this.asked.find((each) => each.what === what);
    if (settled === undefined) throw notAsked(what);
    this.#asking.push(this.#options.custody.append('maintenance-settled', { what, reason }));
    return settled;
  }

  /** The number of the record, where it could be written. */
  #ended(why: string, { interfaces, opened }: Pick<PastWindow, 'interfaces' | 'opened'>): number | undefined {
    const detail = { why, interfaces, opened, ask: wants, keys: this.#options.linkKeys() };
    const kept = recordPast(this.#options, 'maintenance-ended', detail);
    // With the names, for which the record has commitments.
    this.#asking.push({ event: 'maintenance-ended', time: kept?.time ?? utcNow(), detail });
    return kept?.sequence;
  }

  /** Asks people for what only they can do, and does the node's own part. */
  #ask({ why, interfaces, number }: Unasked): void {
    const { announcer, record } = this.#options;
    const due = this.asked;
    if (due.length > 0) {
      for (const { what, since, remedy } of due)
        announcer.event('MAINTENANCE_ASKS', `${sentences[what]} ${remedy}`, { what, since, interfaces });
      announcer.alert({
        key: `${record.node}-asked-${number}`,
        severity: 'warning',
        title: `${record.node}: a maintenance window has ended, and asks for ${due.map(({ what }) => nouns[what]).join(' and ')}`,
        body: due.map(({ what, remedy }) => `${sentences[what]} ${remedy}`).join('\n'),
        facts: { interfaces: interfaces.join(', '), why },
      });
    }
    this.#appraised = this.#appraised.then(() => this.#appraise());
  }

  /** Resolves when the node is done with appraising itself; never rejects. Until then it needs its TPM and the custody log. */
  get appraised(): Promise<void> {
    return this.#appraised;
  }

  async #appraise(): Promise<void> {
    const { announcer, record, appraise, zeroized } = this.#options;
    if (zeroized()) return;
    // A TPM that does not answer after a window is no better than one that is another.
    const failed = await appraise().catch((error: unknown) => [`It cannot tell: ${reasonOf(error)}`]);
    if (failed === null || zeroized()) return; // A TPM that is locked is not as it was enrolled, and is to be so.
    recordPast(this.#options, 'self-appraised', { failed });
    announcer.event(
      failed.length === 0 ? 'SELF_APPRAISED' : 'SELF_APPRAISAL_FAILED',
      failed.length === 0
        ? 'After the window, the node finds its TPM as it was enrolled.'
        : `After the window, the node is not as it was enrolled: ${failed.join(' ')}`,
      { failed },
    );
    if (failed.length === 0) return;
    announcer.alert({
      key: `${record.node}-self-appraisal-${this.#options.custody.head().sequence}`,
      severity: 'critical',
      title: `${record.node}: after a maintenance window, not as it was enrolled`,
      body: failed.join('\n'),
      facts: {},
    });
  }

  /** Planned flaps count for an hour, also across a restart. */
  #recent({ time, detail }: CustodyRecord): void {
    const age = Date.now() - Date.parse(time);
    if (!(age < hour) || typeof detail.interface !== 'string') return;
    this.#options.interlock().remember(detail.interface, Number(detail.flaps), Math.max(0, age));
  }
}

/** The end of a window that a zeroize of the last run has ended: it was recorded then, and nobody asked. */
const endedByZeroize = (records: readonly CustodyRecord[]): CustodyRecord | undefined =>
  records
    .slice(records.findLastIndex(({ event }) => event === 'started') + 1)
    .findLast(({ event, detail }) => event === 'maintenance-ended' && detail.why === zeroizedWhy);

const nouns: Record<Want, string> = { rotate: 'new keys', appraise: 'an appraisal' };
const sentences: Record<Want, string> = {
  rotate: 'The keys of the links are to be rotated.',
  appraise: 'Both ends of the links are to be appraised again.',
};

/** @throws Failure `usage` for what no window asks for. */
function notAsked(what: string): Failure {
  if (wants.some((want) => want === what))
    return new Failure('nothing-asked', `No maintenance window asks for "${what}" now.`, {
      kept: 'Nothing was recorded.',
      remedy: 'Look at what is asked for with `esoteric-appliance status`.',
    });
  return new Failure('usage', `A window asks for ${wants.join(' or ')}, not for "${what}".`, {
    status: exitStatus.usage,
  });
}
