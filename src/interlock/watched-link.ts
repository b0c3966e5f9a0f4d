// One watched interface as the watcher's thread knows it, and what a message says that differs from it.
import {
  type Interface,
  type LinkReport,
  linkQuery,
  messageType,
  type NetlinkSocket,
  operstate,
} from '../host/netlink.ts';
import type { Board } from './board.ts';
import type { Known } from './decide.ts';

export interface Watched extends Known {
  readonly position: number;
  readonly bit: number;
  readonly index: number;
  readonly name: Uint8Array;
  readonly shownName: string;
  readonly address: Uint8Array;
  readonly query: Uint8Array;
  readonly shared: Int32Array;
  /** It has been lost inside the window that is open. */
  fell: boolean;
}

export function watchedOf(link: Interface, position: number, board: Board): Watched {
  return {
    position,
    bit: 1 << position,
    index: link.index,
    name: Buffer.from(link.name),
    shownName: link.name,
    address: Buffer.from(link.address.replaceAll(':', ''), 'hex'),
    carrier: link.carrier ? 1 : 0,
    upCount: link.upCount,
    downCount: link.downCount,
    admin: link.admin ? 1 : 0,
    operational: link.carrier && [operstate.up, operstate.unknown].some((s) => s === link.operstate) ? 1 : 0,
    query: linkQuery(link.index),
    shared: board.watched(position),
    fell: false,
  };
}

/** Whether the bytes at `at` of the message differ from what is known. Absent means unchanged. */
export function differs(netlink: NetlinkSocket, at: number, length: number, known: Uint8Array): boolean {
  if (length === 0) return false;
  if (length !== known.length) return true;
  for (let n = 0; n < length; n += 1) if (netlink.buffer[at + n] !== known[n]) return true;
  return false;
}

/** A message that leaves counters out (a bridge's, a radio's) does not. */
export const tellsAll = ({ type, carrier, upCount, downCount }: LinkReport): boolean =>
  type === messageType.deleteLink || (carrier !== -1 && upCount !== -1 && downCount !== -1);
