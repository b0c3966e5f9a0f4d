// The decision, pure: what the watcher saw of one interface, against what it last knew and the maintenance window.
import type { LinkReport } from '../host/netlink.ts';
import { messageType, operstate } from '../host/netlink.ts';
import { causeNumber } from './causes.ts';

/** What is known of a watched interface. */
export interface Known {
  carrier: number;
  upCount: number;
  downCount: number;
  /** 1 or 0: administratively up. */
  admin: number;
  /** 1 where it passed frames while the carrier was there (RFC 2863): neither dormant nor held down from below. */
  operational: number;
}

export interface WindowState {
  /** Whether the interface lies inside an open window now. */
  readonly open: boolean;
  readonly flapsLeft: number;
}

/** Whether a message tells of an earlier state than the one known: it waited in the queue while counters were asked for. */
export const isOlder = (known: Known, seen: LinkReport): boolean =>
  ((seen.upCount - known.upCount) | 0) < 0 || ((seen.downCount - known.downCount) | 0) < 0;

const isOperational = (state: number): boolean =>
  state === operstate.up || state === operstate.unknown || state === -1;

/**
 * Returns 0 when nothing happened, -n for n planned flaps (losses inside the window), or the number of the cause of an
 * unplanned one. Counters decide, not the carrier bit alone: the kernel may merge a down and an up into one message in
 * which only IFLA_CARRIER_DOWN_COUNT has moved. An interface that is set down, or that is held down while its carrier stays,
 * is lost as well.
 */
export function decide(
  known: Known,
  seen: LinkReport,
  renamed: boolean,
  readdressed: boolean,
  window: WindowState,
): number {
  if (seen.type === messageType.deleteLink) return seen.moved === 1 ? number.moved : number.removed;
  if (renamed) return number.renamed;
  if (readdressed) return number.readdressed;
  if (seen.carrier === -1 || seen.upCount === -1 || seen.downCount === -1 || isOlder(known, seen))
    return number.unparsable;
  const fallen = (seen.downCount - known.downCount) | 0;
  const cause =
    fallen > 0 || (known.carrier === 1 && seen.carrier === 0)
      ? number.flap
      : known.admin === 1 && seen.admin === 0
        ? number.down
        : known.operational === 1 && seen.carrier === 1 && !isOperational(seen.operstate)
          ? number.dormant
          : 0;
  if (cause === 0 || !window.open) return cause;
  const lost = Math.max(fallen, 1);
  return lost > window.flapsLeft ? number.exceeded : -lost;
}

/** Takes over what was seen. A state that was held down counts as one loss with its carrier's, until both are back. */
export function learn(known: Known, seen: LinkReport): void {
  const fell = ((seen.downCount - known.downCount) | 0) > 0 || seen.carrier === 0;
  known.carrier = seen.carrier;
  known.upCount = seen.upCount;
  known.downCount = seen.downCount;
  known.admin = seen.admin;
  known.operational = !fell && isOperational(seen.operstate) ? 1 : 0;
}

const number = {
  flap: causeNumber('link-flap'),
  down: causeNumber('interface-down'),
  dormant: causeNumber('operstate-lost'),
  removed: causeNumber('interface-removed'),
  moved: causeNumber('interface-moved'),
  renamed: causeNumber('interface-renamed'),
  readdressed: causeNumber('interface-address-changed'),
  exceeded: causeNumber('window-exceeded'),
  unparsable: causeNumber('state-unparsable'),
} as const;
