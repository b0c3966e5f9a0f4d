// Ways to a TPM that carry one command and its answer within a time limit. A TPM device and swtpm are spoken to over
// descriptors of this program's own, so that each thread can have one and none can block another; any other TCTI is
// tpm2-tss's (TSS 2.0 TCTI, section 3).
import { isIPv4 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { errno, errnoName, poll, ppoll } from '../host/libc.ts';
import { type Descriptor, DeviceDescriptor, SocketDescriptor } from './descriptor.ts';
import { inBackground, type NativeFunction } from './library.ts';
import { LoaderTransport } from './loader.ts';
import { connectionLost, timedOut } from './responses.ts';

export interface Transport extends Disposable {
  /**
   * Sends a command and blocks until its answer is in `response`; returns the answer's length.
   * @throws TpmError `tpm-timeout`, `tpm-connection-lost`
   */
  exchange(command: Uint8Array, response: Uint8Array, timeoutMilliseconds: number): number;
  /** The same without blocking the event loop for longer than an instant. */
  exchangeInBackground(
    command: Uint8Array,
    response: Uint8Array,
    timeoutMilliseconds: number,
  ): Promise<number>;
}

/** Opens a transport for the calling thread. @throws TpmError `tpm-connection-lost` */
export function openTransport(tcti: string): Transport {
  const [name = '', rest = ''] = split(tcti, ':');
  const options = new Map(rest.split(',').map((option) => split(option, '=')));
  if (name === 'device') return new DescriptorTransport(new DeviceDescriptor(rest || '/dev/tpmrm0'));
  const path = options.get('path');
  if (name === 'swtpm' && path !== undefined) {
    return new DescriptorTransport(SocketDescriptor.unix(path));
  }
  const host = (options.get('host') ?? 'localhost').replace('localhost', '127.0.0.1');
  const port = Number(options.get('port') ?? 2321);
  if (name === 'swtpm' && isIPv4(host)) {
    return new DescriptorTransport(SocketDescriptor.tcp(host, port));
  }
  return new LoaderTransport(tcti);
}

const POLLIN = 1;
const EAGAIN = 11;
const headerSize = 10;
/**
 * struct timespec of 0.3 ms: an answer that comes as fast as a simulator's is not worth a thread, which takes longer to wake than that
 * answer takes to come. Shorter than what ESYS computes for one command.
 */
const instant = new Uint8Array(BigUint64Array.of(0n, 300_000n).buffer);
/** Between two tries to get into a full queue. */
const queueMilliseconds = 1;

class DescriptorTransport implements Transport {
  readonly #descriptor: Descriptor;
  readonly #pollFd = new Uint8Array(8);
  /** To sleep on: nobody wakes it. */
  readonly #never = new Int32Array(new SharedArrayBuffer(4));

  constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor;
    new DataView(this.#pollFd.buffer).setInt16(4, POLLIN, true);
  }

  exchange(command: Uint8Array, response: Uint8Array, timeoutMilliseconds: number): number {
    const deadline = performance.now() + timeoutMilliseconds;
    let fd = this.#descriptor.send(command, timeoutMilliseconds);
    for (; fd === undefined; fd = this.#descriptor.send(command, timeoutMilliseconds)) {
      assertInTime(deadline, timeoutMilliseconds);
      Atomics.wait(this.#never, 0, 0, queueMilliseconds);
    }
    try {
      for (let length = 0; !isWhole(response, length); ) {
        const ready = poll(this.#pollFor(fd), 1, until(deadline));
        if (ready > 0) length += this.#read(fd, response.subarray(length));
        else assertInTime(deadline, timeoutMilliseconds); // A signal may have ended the wait.
      }
      return answerSize(response);
    } finally {
      this.#descriptor.release(fd);
    }
  }

  async exchangeInBackground(
    command: Uint8Array,
    response: Uint8Array,
    timeoutMilliseconds: number,
  ): Promise<number> {
    const deadline = performance.now() + timeoutMilliseconds;
    let fd = this.#descriptor.send(command, timeoutMilliseconds);
    for (; fd === undefined; fd = this.#descriptor.send(command, timeoutMilliseconds)) {
      assertInTime(deadline, timeoutMilliseconds);
      await sleep(queueMilliseconds);
    }
    try {
      const soon = ppoll(this.#pollFor(fd), 1, instant, null);
      for (let length = 0, ready = soon; !isWhole(response, length); ready = 0) {
        const wait = [this.#pollFor(fd), 1, until(deadline)];
        if (ready === 0) ready = await inBackground(poll as NativeFunction, wait);
        if (ready > 0) length += this.#read(fd, response.subarray(length));
        else assertInTime(deadline, timeoutMilliseconds);
      }
      return answerSize(response);
    } finally {
      this.#descriptor.release(fd);
    }
  }

  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }

  #pollFor(fd: number): Uint8Array {
    new DataView(this.#pollFd.buffer).setInt32(0, fd, true);
    return this.#pollFd;
  }

  #read(fd: number, into: Uint8Array): number {
    const count = this.#descriptor.receive(fd, into);
    if (count > 0) return count;
    if (count < 0 && errno() === EAGAIN) return 0;
    throw connectionLost(this.#descriptor.name, count < 0 ? errnoName(errno()) : 'it hung up');
  }
}

function assertInTime(deadline: number, timeoutMilliseconds: number): void {
  if (performance.now() >= deadline) throw timedOut(timeoutMilliseconds);
}

const until = (deadline: number): number => Math.max(0, Math.ceil(deadline - performance.now()));

/** The header says how long an answer is. */
const isWhole = (response: Uint8Array, length: number): boolean =>
  length >= headerSize && length >= answerSize(response);

const answerSize = (response: Uint8Array): number =>
  new DataView(response.buffer, response.byteOffset).getUint32(2);

function split(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at === -1 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
