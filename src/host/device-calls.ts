// Calls of the C library that noise sources need: sockets without an event loop, ioctl, terminals, dynamic loading. All of them
// block for no longer than told, so that a collector thread can use them. Layouts are those of Linux on x86-64 and arm64.
import { isIPv4, isIPv6 } from 'node:net';
import koffi from 'koffi';
import { close, errno, errnoName, poll, recv, socket } from './libc.ts';

const libc = koffi.load('libc.so.6');

export const connect: (fd: number, address: Uint8Array, length: number) => number = libc.func(
  'int connect(int, const uint8_t *, uint32_t)',
);
export const ioctl: (fd: number, request: number, argument: Uint8Array | null) => number = libc.func(
  'int ioctl(int, unsigned long, void *)',
);
export const socketpair: (domain: number, type: number, protocol: number, fds: Int32Array) => number =
  libc.func('int socketpair(int, int, int, int *)');
export const dlopen: (path: string, flags: number) => bigint | number | null = libc.func(
  'uintptr_t dlopen(const char *, int)',
);
export const dlclose: (handle: bigint) => number = libc.func('int dlclose(uintptr_t)');
const tcgetattr: (fd: number, termios: Uint8Array) => number = libc.func('int tcgetattr(int, uint8_t *)');
const tcsetattr: (fd: number, when: number, termios: Uint8Array) => number = libc.func(
  'int tcsetattr(int, int, const uint8_t *)',
);
const cfmakeraw: (termios: Uint8Array) => void = libc.func('void cfmakeraw(uint8_t *)');
const cfsetspeed: (termios: Uint8Array, speed: number) => number = libc.func(
  'int cfsetspeed(uint8_t *, unsigned int)',
);

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
/** SOCK_NONBLOCK | SOCK_CLOEXEC. */
export const unblocking = 0x800 | 0x80000;
export const MSG_NOSIGNAL = 0x4000;
const EINPROGRESS = 115;
const EAGAIN = 11;
const POLLIN = 1;
const POLLOUT = 4;
/** `struct termios` of the C library, with room to spare. */
const termiosLength = 128;
const speeds: Readonly<Record<number, number>> = {
  9600: 13,
  19200: 14,
  38400: 15,
  57600: 0x1001,
  115200: 0x1002,
  230400: 0x1003,
  460800: 0x1004,
  921600: 0x1007,
};

/** `struct sockaddr_in` or `sockaddr_in6`; undefined for what is no address (names are resolved by nobody here). */
export function socketAddress(host: string, port: number): Uint8Array | undefined {
  if (isIPv4(host)) {
    const address = new Uint8Array(16);
    new DataView(address.buffer).setUint16(0, AF_INET, true);
    new DataView(address.buffer).setUint16(2, port);
    address.set(host.split('.').map(Number), 4);
    return address;
  }
  if (!isIPv6(host) || host.includes('%') || host.includes('.')) return undefined;
  const address = new Uint8Array(28);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_INET6, true);
  view.setUint16(2, port);
  const [left = '', right] = host.split('::');
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const head = groups(left);
  const tail = groups(right ?? '');
  const middle = right === undefined ? [] : new Array<string>(8 - head.length - tail.length).fill('0');
  for (const [at, group] of [...head, ...middle, ...tail].entries()) {
    view.setUint16(8 + 2 * at, Number.parseInt(group, 16));
  }
  return address;
}

/** Waits until `fd` can be read; false when it cannot after so many milliseconds. */
export function readable(fd: number, milliseconds: number): boolean {
  return waitFor(fd, POLLIN, milliseconds);
}

/** Waits until something can be written to `fd`, or until nobody can read it any more; false when neither comes in so many milliseconds. */
export function writable(fd: number, milliseconds: number): boolean {
  return waitFor(fd, POLLOUT, milliseconds);
}

/** Opens a TCP connection and closes it again; returns whether it came about in time (refused counts: something answered). */
export function tryConnect(address: Uint8Array, milliseconds: number): boolean {
  const family = new DataView(address.buffer).getUint16(0, true);
  const fd = socket(family, SOCK_STREAM | unblocking, 0);
  if (fd < 0) return false;
  try {
    if (connect(fd, address, address.byteLength) === 0) return true;
    return errno() === EINPROGRESS
      ? waitFor(fd, POLLOUT, milliseconds)
      : errnoName(errno()) === 'ECONNREFUSED';
  } finally {
    close(fd);
  }
}

/** Bytes received, 0 where none are there; -1 where the descriptor is no good any more. */
export function receiveNow(fd: number, into: Uint8Array): number {
  const count = recv(fd, into, into.byteLength, 0x40);
  if (count >= 0) return count;
  return errno() === EAGAIN ? 0 : -1;
}

/** Raw mode, so many baud. @returns false where the descriptor is no terminal. */
export function makeSerial(fd: number, baud: number): boolean {
  const termios = new Uint8Array(termiosLength);
  if (tcgetattr(fd, termios) !== 0) return false;
  cfmakeraw(termios);
  return cfsetspeed(termios, speeds[baud] ?? 0x1002) === 0 && tcsetattr(fd, 0, termios) === 0;
}

const pollFd = new Uint8Array(8);
const pollView = new DataView(pollFd.buffer);

function waitFor(fd: number, events: number, milliseconds: number): boolean {
  pollView.setInt32(0, fd, true);
  pollView.setInt16(4, events, true);
  pollView.setInt16(6, 0, true);
  return poll(pollFd, 1, milliseconds) > 0;
}
