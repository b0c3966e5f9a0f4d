// Pulls or plugs a cable: one rtnetlink message that sets an interface down or up, stamped right before and right after, on the
// same clock (CLOCK_MONOTONIC) as the nodes' own stamps. As a program, inside a namespace: `node cable.ts NAME up|down`.
import { linkState, listInterfaces, NetlinkSocket } from '../../src/host/netlink.ts';
import { monotonicMicros } from '../../src/host/time.ts';

export interface Pull {
  /** Microseconds: the kernel is told, and the kernel has answered. */
  readonly before: number;
  readonly after: number;
}

export function setCable(name: string, state: 'up' | 'down'): Pull {
  const link = listInterfaces().find((candidate) => candidate.name === name);
  if (link === undefined) throw new Error(`There is no interface ${name}.`);
  using netlink = new NetlinkSocket({ events: false });
  const message = linkState(link.index, state === 'up');
  const before = monotonicMicros();
  netlink.send(message);
  return { before, after: monotonicMicros() };
}

if (import.meta.main) {
  const [name = '', state] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(setCable(name, state === 'up' ? 'up' : 'down'))}\n`);
}
