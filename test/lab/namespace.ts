// A network namespace of this process's own (unshare(2)), with cables in it: nothing outside is touched, no name can clash, and the
// kernel removes everything when the process ends. Needs root.
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { requireChild } from '../../src/host/child.ts';

const libc = koffi.load('libc.so.6');
const unshare: (flags: number) => number = libc.func('int unshare(int)');
const setns: (fd: number, kind: number) => number = libc.func('int setns(int, int)');
const ioctl: (fd: number, request: number, argument: Uint8Array) => number = libc.func(
  'int ioctl(int, unsigned long, uint8_t *)',
);
const CLONE_NEWNET = 0x4000_0000;
const CLONE_NEWNS = 0x0002_0000;
const TUNSETIFF = 0x4004_54ca;
const TUNSETCARRIER = 0x4004_54e2;
const IFF_TAP_NO_PI = 0x0002 | 0x1000;

/** Moves this thread, and the threads and programs that it starts from now on, into a new namespace. */
export function enterOwnNetwork(): void {
  if (unshare(CLONE_NEWNET) !== 0) throw new Error('A network namespace of its own needs root.');
}

/**
 * Gives this thread, and the programs that it starts from now on, mounts of their own, which the kernel removes with them. Other
 * threads of this process, those of `fs.promises` among them, go on seeing what was there before.
 */
export async function enterOwnMounts(): Promise<void> {
  if (unshare(CLONE_NEWNS) !== 0) throw new Error('Mounts of its own need root.');
  await requireChild('mount', ['--make-rprivate', '/']);
}

/** A new namespace that this thread can leave and come back to. */
export class Namespace implements Disposable {
  readonly #fd: number;

  constructor() {
    enterOwnNetwork();
    this.#fd = openSync('/proc/thread-self/ns/net', 'r');
  }

  /** For `ip link set … netns`. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.#fd}`;
  }

  enter(): void {
    if (setns(this.#fd, CLONE_NEWNET) !== 0) throw new Error('The namespace cannot be entered.');
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

export const ip = async (...args: string[]): Promise<void> => {
  await requireChild('ip', args);
};

/** A veth pair with both ends up. */
export async function addCable(near: string, far: string): Promise<void> {
  await ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far);
  await ip('link', 'set', near, 'up');
  await ip('link', 'set', far, 'up');
}

/** A TAP interface, whose carrier events the kernel delays and merges (a veth's it reports at once). */
export class Tap implements Disposable {
  readonly #fd = openSync('/dev/net/tun', 'r+');

  constructor(name: string) {
    const request = new Uint8Array(40);
    request.set(Buffer.from(name));
    new DataView(request.buffer).setUint16(16, IFF_TAP_NO_PI, true);
    if (ioctl(this.#fd, TUNSETIFF, request) !== 0) throw new Error(`There is no TAP ${name}.`);
  }

  carrier(on: boolean): void {
    if (ioctl(this.#fd, TUNSETCARRIER, Uint8Array.of(on ? 1 : 0, 0, 0, 0)) !== 0)
      throw new Error('The carrier could not be set.');
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
