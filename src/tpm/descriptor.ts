// What a TPM is reached through: a socket of swtpm, or a TPM device of the kernel (tpm(4): /dev/tpm0, /dev/tpmrm0).
import { closeSync, constants, openSync } from 'node:fs';
import koffi from 'koffi';
import { close, errno, errnoName, poll, read, recv, send, setsockopt, socket, write } from '../host/libc.ts';
import { connectionLost, timedOut } from './responses.ts';

const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_SNDTIMEO = 21;
const SHUT_WR = 1;
const MSG_NOSIGNAL = 0x4000;
const MSG_DONTWAIT = 0x40;
const EINTR = 4;
const EAGAIN = 11;
const EBUSY = 16;
const EINPROGRESS = 115;
const POLLIN = 1;
const longestAnswer = 4096;
const libc = koffi.load('libc.so.6');
const connect: (fd: number, address: Uint8Array, length: number) => number = libc.func(
  'int connect(int, const uint8_t *, uint32_t)',
);
const shutdown: (fd: number, how: number) => number = libc.func('int shutdown(int, int)');

/** Where a command goes and its answer comes from. */
export interface Descriptor extends Disposable {
  readonly name: string;
  /**
   * Sends the command; returns the descriptor that its answer comes from, or undefined when there is a queue just now.
   * Done in one go: a connection that waits for its command would keep every other thread from the TPM.
   */
  send(command: Uint8Array, timeoutMilliseconds: number): number | undefined;
  /** Reads what is there, without blocking: as `read` returns it. */
  receive(fd: number, into: Uint8Array): number;
  /** The answer has been read, or given up. */
  release(fd: number): void;
}

/** A connection for each command, as tpm2-tss makes them: swtpm serves one at a time, and this way nobody holds it. */
export class SocketDescriptor implements Descriptor {
  readonly name: string;
  readonly #family: number;
  readonly #address: Uint8Array;

  private constructor(name: string, family: number, address: Uint8Array) {
    this.name = name;
    this.#family = family;
    this.#address = address;
  }

  static unix(path: string): SocketDescriptor {
    return new SocketDescriptor(path, AF_UNIX, unixAddress(path));
  }
  /** `host`: an IPv4 address. */
  static tcp(host: string, port: number): SocketDescriptor {
    return new SocketDescriptor(`${host}:${port}`, AF_INET, inetAddress(host, port));
  }

  send(command: Uint8Array, timeoutMilliseconds: number): number | undefined {
    const fd = this.#socket(timeoutMilliseconds);
    if (connect(fd, this.#address, this.#address.byteLength) === 0 && sendAll(fd, command)) return fd;
    const code = errno();
    close(fd);
    if (code === EAGAIN || code === EINTR) return undefined;
    throw code === EINPROGRESS ? timedOut(timeoutMilliseconds) : connectionLost(this.name, errnoName(code));
  }

  receive(fd: number, into: Uint8Array): number {
    return recv(fd, into, into.byteLength, MSG_DONTWAIT);
  }

  release(fd: number): void {
    close(fd);
  }

  [Symbol.dispose](): void {}

  /** A UNIX socket is either connected at once or queued; over TCP connecting takes time, which is limited. */
  #socket(timeoutMilliseconds: number): number {
    if (this.#family === AF_UNIX) return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const fd = socket(this.#family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const limit = timeval(timeoutMilliseconds);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, limit, limit.byteLength);
    return fd;
  }
}

/** No more will follow: swtpm goes on to the next client once it has answered, however late that is read. */
const sendAll = (fd: number, command: Uint8Array): boolean =>
  send(fd, command, command.byteLength, MSG_NOSIGNAL) === command.byteLength && shutdown(fd, SHUT_WR) === 0;

/** A TPM device, kept open: a resource manager ties objects and sessions to the descriptor. */
export class DeviceDescriptor implements Descriptor {
  readonly name: string;
  readonly #fd: number;

  constructor(path: string) {
    this.name = path;
    try {
      this.#fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    } catch (error) {
      throw connectionLost(path, (error as NodeJS.ErrnoException).code ?? 'it cannot be opened');
    }
  }

  /**
   * The late answer to a command that was given up is read first, for the kernel takes no other before (tpm_common_write in its
   * tpm-dev-common.c: EBUSY). While it is still to come, that is a queue.
   */
  send(command: Uint8Array): number | undefined {
    this.#drain();
    if (write(this.#fd, command, command.byteLength) === command.byteLength) return this.#fd;
    const code = errno();
    if (code === EBUSY) return undefined;
    throw connectionLost(this.name, errnoName(code));
  }
  receive(fd: number, into: Uint8Array): number {
    return read(fd, into, into.byteLength);
  }
  release(): void {}

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #drain(): void {
    const pollFd = new Uint8Array(8);
    new DataView(pollFd.buffer).setInt32(0, this.#fd, true);
    new DataView(pollFd.buffer).setInt16(4, POLLIN, true);
    const stale = new Uint8Array(longestAnswer);
    while (poll(pollFd, 1, 0) > 0 && read(this.#fd, stale, stale.byteLength) > 0);
    stale.fill(0);
  }
}

/** struct sockaddr_un. */
function unixAddress(path: string): Uint8Array {
  const bytes = Buffer.from(path);
  if (bytes.byteLength > 107) throw connectionLost(path, 'a socket path has at most 107 bytes');
  return Buffer.concat([Uint8Array.of(AF_UNIX, 0), bytes, Uint8Array.of(0)]);
}

/** struct sockaddr_in. */
function inetAddress(host: string, port: number): Uint8Array {
  const address = new Uint8Array(16);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  address.set(host.split('.').map(Number), 4);
  return address;
}

/** struct timeval. */
function timeval(milliseconds: number): Uint8Array {
  const value = new Uint8Array(16);
  const view = new DataView(value.buffer);
  view.setBigInt64(0, BigInt(Math.floor(milliseconds / 1000)), true);
  view.setBigInt64(8, BigInt(Math.ceil((milliseconds % 1000) * 1000)), true);
  return value;
}
