// The network family: round trips to hosts that the configuration names, in nanoseconds modulo 256. Nobody else is spoken to, and no
// name is resolved. Whoever is on the path can time them as well.
import {
  connect,
  MSG_NOSIGNAL,
  readable,
  receiveNow,
  SOCK_DGRAM,
  socketAddress,
  tryConnect,
  unblocking,
} from '../../host/device-calls.ts';
import { Failure } from '../../host/failure.ts';
import { close, send, socket } from '../../host/libc.ts';
import { type Availability, elapsedLow8, type NoiseSource, unavailable } from '../source.ts';

/** An answer that takes longer is given up, so that one silent host does not hold up the others. */
const patienceMilliseconds = 250;

export interface Endpoint {
  readonly text: string;
  readonly address: Uint8Array;
}

/** `192.0.2.1:53`, `[2001:db8::1]:53`. What is not an address with a port is left out. */
export function endpoints(texts: readonly string[]): Endpoint[] {
  return texts.flatMap((text) => {
    const [, host = '', port = ''] = /^\[?([^\]]+?)\]?:(\d{1,5})$/.exec(text) ?? [];
    const address = Number(port) > 65_535 ? undefined : socketAddress(host, Number(port));
    return address === undefined ? [] : [{ text, address }];
  });
}

function configured(texts: readonly string[], key: string): Availability {
  if (texts.length === 0)
    return unavailable('no host is configured', `Name hosts in entropy.${key}, as address:port.`);
  return endpoints(texts).length > 0
    ? { ok: true }
    : unavailable(
        `none of ${texts.join(', ')} is an address with a port`,
        `Name addresses in entropy.${key}.`,
      );
}

/** A query (RFC 1035) for the name servers of the root, which every resolver has at hand. */
export function rootQuery(id: number): Uint8Array {
  return Uint8Array.of(id >> 8, id & 0xff, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1);
}

export function dnsTiming(servers: readonly string[]): NoiseSource {
  return {
    name: 'dns-timing',
    family: 'network',
    physical:
      'queues and clocks between here and the configured resolvers: the time of a query and its answer',
    pace: 'patient',
    exercised: 'live',
    available: () => configured(servers, 'dns_servers'),
    open() {
      const targets = endpoints(servers);
      const sockets = targets.map(({ address, text }) => {
        const family = new DataView(address.buffer).getUint16(0, true);
        const fd = socket(family, SOCK_DGRAM | unblocking, 0);
        if (fd < 0 || connect(fd, address, address.byteLength) !== 0)
          throw new Failure('source-gone', `No datagram can be sent to ${text}.`);
        return fd;
      });
      const answer = new Uint8Array(512);
      let turn = 0;
      return {
        sample(into) {
          const fd = sockets[turn % sockets.length];
          if (into.length === 0 || fd === undefined) return 0;
          turn = (turn + 1) & 0xffff;
          const query = rootQuery(turn);
          const start = process.hrtime.bigint();
          if (send(fd, query, query.length, MSG_NOSIGNAL) !== query.length) return 0;
          // Late answers to earlier queries are not this one's.
          while (readable(fd, patienceMilliseconds)) {
            const length = receiveNow(fd, answer);
            if (length < 2) return 0;
            if (answer[0] !== query[0] || answer[1] !== query[1]) continue;
            into[0] = elapsedLow8(start);
            return 1;
          }
          return 0;
        },
        [Symbol.dispose]() {
          for (const fd of sockets.splice(0)) close(fd);
        },
      };
    },
  };
}

export function tcpTiming(hosts: readonly string[]): NoiseSource {
  return {
    name: 'tcp-connect-timing',
    family: 'network',
    physical: 'queues and clocks between here and the configured hosts: the time until a connection is open',
    pace: 'patient',
    exercised: 'live',
    available: () => configured(hosts, 'tcp_hosts'),
    open() {
      const targets = endpoints(hosts);
      let turn = 0;
      return {
        sample(into) {
          const target = targets[turn++ % targets.length];
          if (target === undefined || into.length === 0) return 0;
          const start = process.hrtime.bigint();
          if (!tryConnect(target.address, patienceMilliseconds)) return 0;
          into[0] = elapsedLow8(start);
          return 1;
        },
        [Symbol.dispose]() {},
      };
    },
  };
}
