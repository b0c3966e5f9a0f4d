// The decision, pure: what the watcher saw of one interface, against what it last knew and the maintenance window.
import type { LinkReport } from '../host/netlink.ts';
import { messageType } from '../host/netlink.ts';
import { causeNumber } from './causes.ts';

/** What is known of a watched interface. */
export interface Known {
  carrier: number;
  upCount: number;
  downCount: number;
}

export interface WindowState {
  /** Whether the interface lies inside an open window now. */
  readonly open: boolean;
  readonly flapsLeft: number;
}

/** Whether a message tells of an earlier state than the one known: it waited in the queue while counters were asked for. */
export const isOlder = (known: Known, seen: LinkReport): boolean =>
  ((seen.upCount - known.upCount) | 0) < 0 || ((seen.downCount - known.downCount) | 0) < 0;

/**
 * Returns 0 when nothing happened, -n for n planned flaps (carrier losses inside the window), or the number of the cause
 * of an unplanned one. Counters decide, not the carrier bit alone: the kernel may merge a down and an up into one
 * message in which only IFLA_CARRIER_DOWN_COUNT has moved.
 */
export function decide(
  known: Known,
  seen: LinkReport,
  renamed: boolean,
  readdressed: boolean,
  window: WindowState,
): number {
  if (seen.type === messageType.deleteLink) return causeNumber('interface-removed');
  if (renamed) return causeNumber('interface-renamed');
  if (readdressed) return causeNumber('interface-address-changed');
  if (seen.carrier === -1 || seen.upCount === -1 || seen.downCount === -1 || isOlder(known, seen))
    return causeNumber('state-unparsable');
  const fallen = (seen.downCount - known.downCount) | 0;
  const lost = fallen > 0 ? fallen : known.carrier === 1 && seen.carrier === 0 ? 1 : 0;
  if (lost === 0) return 0;
  if (!window.open) return causeNumber('link-flap');
  return lost > window.flapsLeft ? causeNumber('window-exceeded') : -lost;
}
