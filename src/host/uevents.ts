// Events of the kernel's devices (netlink(7), NETLINK_KOBJECT_UEVENT): heard by the main thread, without waiting.
import { bind, close, recv, socket } from './libc.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC_NONBLOCK = 3 | 0o2000000 | 0o4000;
const NETLINK_KOBJECT_UEVENT = 15;
const kernelGroup = 1;

export class Uevents implements Disposable {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(16_384);

  /** Hears nothing where the kernel refuses: `heard` says so. */
  constructor() {
    this.#fd = socket(AF_NETLINK, SOCK_RAW_CLOEXEC_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    const address = new Uint8Array(12);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_NETLINK, true);
    view.setUint32(8, kernelGroup, true);
    bind(this.#fd, address, address.length);
  }

  /** The events since the last call. A queue that overflowed loses the oldest. */
  *take(): Iterable<Uint8Array> {
    for (;;) {
      const received = recv(this.#fd, this.#buffer, this.#buffer.length, 0);
      if (received <= 0) return;
      yield this.#buffer.subarray(0, received);
    }
  }

  [Symbol.dispose](): void {
    close(this.#fd);
  }
}
