// Arrival of packets: on a real interface through AF_PACKET, and on `CPU[n]`, an interface that is simulated by a pair of sockets.
// Contents are not looked at; the time between arrivals is the sample, in nanoseconds modulo 256. Whoever sends can choose it.
import { readFileSync } from 'node:fs';
import {
  AF_UNIX,
  MSG_NOSIGNAL,
  readable,
  receiveNow,
  SOCK_DGRAM,
  SOCK_RAW,
  socketpair,
  unblocking,
} from '../../host/device-calls.ts';
import { Failure } from '../../host/failure.ts';
import { bind, close, send, socket } from '../../host/libc.ts';
import { elapsedLow8, type NoiseSource, unavailable } from '../source.ts';
import { timedSource } from './timed.ts';

const AF_PACKET = 17;
/** ETH_P_ALL in network byte order. */
const everyProtocol = 0x0300;
const patienceMilliseconds = 5;

export function packetTiming(name: string): NoiseSource {
  return {
    name: `packets:${name}`,
    family: 'external',
    physical: `arrival of frames on ${name}: clocks and queues of its neighbours, of the adapter and of the interrupt`,
    pace: 'patient',
    exercised: 'live',
    available() {
      if (indexOf(name) === undefined)
        return unavailable(`there is no interface ${name}`, 'Correct -I or node.interfaces.');
      const fd = socket(AF_PACKET, SOCK_RAW | unblocking, 0);
      if (fd < 0) return unavailable('AF_PACKET sockets are refused', 'Run as root, or grant CAP_NET_RAW.');
      close(fd);
      return { ok: true };
    },
    open() {
      const fd = socket(AF_PACKET, SOCK_RAW | unblocking, everyProtocol);
      const address = new Uint8Array(20);
      const view = new DataView(address.buffer);
      view.setUint16(0, AF_PACKET, true);
      view.setUint16(2, everyProtocol, true);
      view.setInt32(4, indexOf(name) ?? 0, true);
      if (fd < 0 || bind(fd, address, address.length) !== 0)
        throw new Failure('source-gone', `${name} cannot be listened to.`);
      const frame = new Uint8Array(64);
      let last = process.hrtime.bigint();
      return {
        sample(into) {
          let count = 0;
          while (count < into.length && count < 64 && readable(fd, count === 0 ? patienceMilliseconds : 0)) {
            if (receiveNow(fd, frame) < 0) throw new Failure('source-gone', `${name} is gone.`);
            into[count++] = elapsedLow8(last);
            last = process.hrtime.bigint();
          }
          frame.fill(0);
          return count;
        },
        [Symbol.dispose]() {
          close(fd);
        },
      };
    },
  };
}

function indexOf(name: string): number | undefined {
  try {
    return Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'));
  } catch {
    return undefined;
  }
}

/** `CPU`, `CPU0`, `CPU[1]`: an interface without an adapter, so what is timed is the kernel's socket layer. */
export function simulatedInterface(name: string): NoiseSource {
  return timedSource({
    name: `packets:${name.replaceAll(/[[\]]/g, '')}`,
    family: 'external',
    physical:
      'the socket layer of the kernel: a datagram to itself (a simulated interface: no cable, no adapter)',
    samplesAtOnce: 128,
    prepare() {
      const fds = new Int32Array(2);
      if (socketpair(AF_UNIX, SOCK_DGRAM | unblocking, 0, fds) !== 0)
        throw new Failure('source-gone', 'No pair of sockets could be made.');
      const [here = -1, there = -1] = fds;
      const datagram = new Uint8Array(64);
      return {
        act() {
          send(here, datagram, datagram.length, MSG_NOSIGNAL);
          receiveNow(there, datagram);
        },
        release() {
          close(here);
          close(there);
        },
      };
    },
  });
}
