// rtnetlink (RFC 3549; linux/rtnetlink.h, linux/if_link.h): link messages built and read in place, and the socket for them.
// Netlink is in host byte order: little-endian on every machine that this program runs on.
import { Failure } from './failure.ts';
import { bind, close, errno, errnoName, recv, send, setsockopt, socket } from './libc.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC_NONBLOCK = 3 | 0o2000000 | 0o4000;
const NETLINK_ROUTE = 0;
const RTMGRP_LINK = 1;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;

export const messageType = { error: 2, done: 3, newLink: 16, deleteLink: 17, getLink: 18 } as const;
const flag = { request: 1, acknowledge: 4, dump: 0x300 } as const;
const attribute = {
  address: 1,
  name: 3,
  operstate: 16,
  carrier: 33,
  newNamespace: 45,
  upCount: 47,
  downCount: 48,
} as const;
/** IFF_UP. */
const interfaceUp = 1;
/** RFC 2863, `ifOperStatus` as the kernel numbers it: an interface that passes frames is up, or does not say. */
export const operstate = { unknown: 0, up: 6 } as const;
const headerLength = 16;
const linkHeaderLength = headerLength + 16;

/** The errno of a recv on a socket whose queue overflowed: messages were lost. */
export const ENOBUFS = 105;
export const EAGAIN = 11;
/** There is no such interface. */
export const ENODEV = 19;
const EBADMSG = 74;

/** What one link message says; reused between messages so that reading allocates nothing but a changed name. */
export interface LinkReport {
  type: number;
  /** Address family: 0 where the message is about the interface itself, 7 where it is about its place in a bridge. */
  family: number;
  index: number;
  /** 1 or 0; -1 where the message does not say. */
  carrier: number;
  /** IFLA_CARRIER_UP_COUNT and IFLA_CARRIER_DOWN_COUNT; -1 where absent. */
  upCount: number;
  downCount: number;
  /** 1 or 0: administratively up (IFF_UP). */
  admin: number;
  /** See `operstate`; -1 where absent. */
  operstate: number;
  /** 1 where a removal is a move to another network namespace. */
  moved: number;
  /** Offset and length of the name (without its NUL) and the MAC address within the buffer; length 0 where absent. */
  nameAt: number;
  nameLength: number;
  addressAt: number;
  addressLength: number;
}

export const emptyReport = (): LinkReport => ({
  type: 0,
  family: 0,
  index: 0,
  carrier: -1,
  upCount: -1,
  downCount: -1,
  admin: 0,
  operstate: -1,
  moved: 0,
  nameAt: 0,
  nameLength: 0,
  addressAt: 0,
  addressLength: 0,
});

/**
 * Reads the message at `offset` into `report` and returns the offset of the next one, or -1 where no whole message is
 * left. Malformed lengths end the walk: the caller counts that as an unparsable state.
 */
export function readLinkMessage(
  view: DataView,
  offset: number,
  byteLength: number,
  report: LinkReport,
): number {
  if (offset + headerLength > byteLength) return -1;
  const length = view.getUint32(offset, true);
  if (length < headerLength || offset + length > byteLength) return -1;
  report.type = view.getUint16(offset + 4, true);
  report.family = 0;
  report.index = 0;
  report.carrier = -1;
  report.upCount = -1;
  report.downCount = -1;
  report.admin = 0;
  report.operstate = -1;
  report.moved = 0;
  report.nameLength = 0;
  report.addressLength = 0;
  const isLink = report.type === messageType.newLink || report.type === messageType.deleteLink;
  if (isLink && length >= linkHeaderLength) {
    report.family = view.getUint8(offset + headerLength);
    report.index = view.getInt32(offset + headerLength + 4, true);
    report.admin = view.getUint32(offset + headerLength + 8, true) & interfaceUp;
    const end = offset + length;
    for (let at = offset + linkHeaderLength; at + 4 <= end; ) {
      const size = view.getUint16(at, true);
      if (size < 4 || at + size > end) break;
      const kind = view.getUint16(at + 2, true) & 0x3fff;
      if (kind === attribute.carrier && size >= 5) report.carrier = view.getUint8(at + 4);
      else if (kind === attribute.upCount && size >= 8) report.upCount = view.getUint32(at + 4, true);
      else if (kind === attribute.downCount && size >= 8) report.downCount = view.getUint32(at + 4, true);
      else if (kind === attribute.operstate && size >= 5) report.operstate = view.getUint8(at + 4);
      else if (kind === attribute.newNamespace) report.moved = 1;
      else if (kind === attribute.name && size >= 5) {
        report.nameAt = at + 4;
        report.nameLength = size - 5;
      } else if (kind === attribute.address) {
        report.addressAt = at + 4;
        report.addressLength = size - 4;
      }
      at += (size + 3) & ~3;
    }
  }
  return offset + ((length + 3) & ~3);
}

function linkMessage(type: number, flags: number, index: number): Uint8Array {
  const message = new Uint8Array(linkHeaderLength);
  const view = new DataView(message.buffer);
  view.setUint32(0, message.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setInt32(headerLength + 4, index, true);
  return message;
}

/** RTM_GETLINK for one interface. */
export const linkQuery = (index: number): Uint8Array => linkMessage(messageType.getLink, flag.request, index);
/** RTM_GETLINK for all interfaces of this namespace. */
export const linkDump = (): Uint8Array => linkMessage(messageType.getLink, flag.request | flag.dump, 0);
/** RTM_DELLINK: takes a WireGuard, MACsec or TUN interface, and the keys in it, out of the kernel. */
export const linkDeletion = (index: number): Uint8Array =>
  linkMessage(messageType.deleteLink, flag.request | flag.acknowledge, index);

/** RTM_NEWLINK that sets an interface administratively up or down. */
export function linkState(index: number, up: boolean): Uint8Array {
  const message = linkMessage(messageType.newLink, flag.request | flag.acknowledge, index);
  const view = new DataView(message.buffer);
  view.setUint32(headerLength + 8, up ? interfaceUp : 0, true);
  view.setUint32(headerLength + 12, interfaceUp, true);
  return message;
}

/** A non-blocking rtnetlink socket in the namespace of the calling thread. */
export class NetlinkSocket implements Disposable {
  readonly fd: number;
  readonly buffer = new Uint8Array(65_536);
  readonly view = new DataView(this.buffer.buffer);

  constructor(options: { readonly events: boolean }) {
    this.fd = socket(AF_NETLINK, SOCK_RAW_CLOEXEC_NONBLOCK, NETLINK_ROUTE);
    const address = new Uint8Array(12);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_NETLINK, true);
    view.setUint32(8, options.events ? RTMGRP_LINK : 0, true);
    if (this.fd < 0 || bind(this.fd, address, address.length) !== 0) {
      throw new Failure(
        'netlink-unavailable',
        `An rtnetlink socket could not be opened: ${errnoName(errno())}.`,
      );
    }
    const size = new Uint8Array(4);
    new DataView(size.buffer).setInt32(0, 1 << 20, true);
    setsockopt(this.fd, SOL_SOCKET, SO_RCVBUF, size, 4);
  }

  send(message: Uint8Array): boolean {
    return send(this.fd, message, message.length, 0) === message.length;
  }

  /** Sends a message that asks for an acknowledgement and returns the kernel's answer: 0, or an errno. */
  request(message: Uint8Array): number {
    if (!this.send(message)) return errno();
    const received = this.receive();
    if (received < 0) return -received;
    const answered = received >= headerLength + 4 && this.view.getUint16(4, true) === messageType.error;
    return answered ? Math.abs(this.view.getInt32(headerLength, true)) : EBADMSG;
  }

  /** Bytes received into `buffer`, or the negated errno. */
  receive(): number {
    const received = recv(this.fd, this.buffer, this.buffer.length, 0);
    return received < 0 ? -errno() : received;
  }

  [Symbol.dispose](): void {
    close(this.fd);
  }
}

export interface Interface {
  readonly index: number;
  readonly name: string;
  /** Administratively up. */
  readonly admin: boolean;
  readonly carrier: boolean;
  /** See `operstate`. */
  readonly operstate: number;
  readonly upCount: number;
  readonly downCount: number;
  /** MAC address in hex with colons; empty where the interface has none. */
  readonly address: string;
}

/** All interfaces of this thread's network namespace, from one dump. */
export function listInterfaces(): Interface[] {
  using netlink = new NetlinkSocket({ events: false });
  netlink.send(linkDump());
  const report = emptyReport();
  const found: Interface[] = [];
  for (;;) {
    const received = netlink.receive();
    if (received <= 0) return found;
    for (let at = 0; ; ) {
      at = readLinkMessage(netlink.view, at, received, report);
      if (at === -1) break;
      if (report.type === messageType.done || report.type === messageType.error) return found;
      if (report.type !== messageType.newLink) continue;
      found.push(interfaceOf(netlink.buffer, report));
    }
  }
}

/** The interface that a message tells of, with copies of its name and address. */
export function interfaceOf(buffer: Uint8Array, report: LinkReport): Interface {
  const part = (at: number, length: number): Buffer => Buffer.from(buffer.subarray(at, at + length));
  return {
    index: report.index,
    name: part(report.nameAt, report.nameLength).toString(),
    admin: report.admin === 1,
    carrier: report.carrier === 1,
    operstate: report.operstate,
    upCount: report.upCount,
    downCount: report.downCount,
    address: part(report.addressAt, report.addressLength)
      .toString('hex')
      .replace(/(..)(?=.)/g, '$1:'),
  };
}
