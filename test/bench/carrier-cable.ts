// The hand that pulls, a program inside the namespace of the far ends. `tap NAME` makes a TAP interface, which a switch in the
// kernel pulls (TUNSETCARRIER); any other name is a veth. `down NAME` and `up NAME` answer with the time right before.
import { closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import koffi from 'koffi';
import { errno, errnoName } from '../../src/host/libc.ts';
import { monotonicMicros } from '../../src/host/time.ts';
import { setCable } from '../lab/cable.ts';

export type CableOrder = `${'tap' | 'down' | 'up'} ${string}`;

/** linux/if_tun.h. */
const TUNSETIFF = 0x400454ca;
const TUNSETCARRIER = 0x400454e2;
const IFF_TAP_NO_PI = 0x0002 | 0x1000;

const ioctl: (fd: number, request: number, argument: Uint8Array) => number = koffi
  .load('libc.so.6')
  .func('int ioctl(int, unsigned long, uint8_t *)');

/** A TAP interface; it goes with the descriptor, into whichever namespace it has been moved. */
class Tap implements Disposable {
  readonly #fd = openSync('/dev/net/tun', 'r+');

  constructor(name: string) {
    const request = Buffer.alloc(40); // struct ifreq: the name in 16 bytes, then the flags.
    request.write(name, 'latin1');
    request.writeUInt16LE(IFF_TAP_NO_PI, 16);
    this.#call(TUNSETIFF, request);
  }

  setCarrier(up: boolean): number {
    const argument = Buffer.alloc(4);
    argument.writeInt32LE(up ? 1 : 0);
    const before = monotonicMicros();
    this.#call(TUNSETCARRIER, argument);
    return before;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #call(request: number, argument: Uint8Array): void {
    if (ioctl(this.#fd, request, argument) !== 0) throw new Error(`A TAP refused: ${errnoName(errno())}.`);
  }
}

if (import.meta.main) {
  using taps = new DisposableStack();
  const tapNamed = new Map<string, Tap>();
  for await (const line of createInterface({ input: process.stdin })) {
    const [verb, name = ''] = line.split(' ');
    const tap = tapNamed.get(name);
    if (verb === 'tap') {
      tapNamed.set(name, taps.use(new Tap(name)));
      process.stdout.write('made\n');
    } else {
      const up = verb === 'up';
      process.stdout.write(`${tap?.setCarrier(up) ?? setCable(name, up ? 'up' : 'down').before}\n`);
    }
  }
}
