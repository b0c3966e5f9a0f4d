// The lab's network: two nodes in namespaces of their own, joined by a veth pair (the cable that is watched), and a
// management namespace whose two unwatched links carry the services. Removed again, also after an earlier run was killed.
import { existsSync } from 'node:fs';
import { requireChild, runChild } from '../../src/host/child.ts';

export interface LabNetwork extends AsyncDisposable {
  readonly namespaces: { readonly alpha: string; readonly beta: string; readonly services: string };
  /** Name of the cable's interface at both ends. */
  readonly cable: string;
  /** Addresses: of the cable's ends, and of the services as each node reaches them. */
  readonly addresses: {
    readonly alpha: string;
    readonly beta: string;
    /** One address, on the loopback of the services' namespace, that both nodes reach through their management links. */
    readonly services: string;
  };
}

/** TEST-NET ranges (RFC 5737): nothing outside can be meant by them. */
const addresses = {
  alpha: '192.0.2.1',
  beta: '192.0.2.2',
  services: '198.51.100.129',
};

const ip = async (...args: string[]): Promise<void> => {
  await requireChild('ip', args);
};

/** Creates the three namespaces `PREFIX-alpha`, `PREFIX-beta`, `PREFIX-services` and their cables. Needs root. */
export async function createNetwork(prefix: string): Promise<LabNetwork> {
  const namespaces = { alpha: `${prefix}-alpha`, beta: `${prefix}-beta`, services: `${prefix}-services` };
  await removeNamespaces(Object.values(namespaces));
  try {
    for (const name of Object.values(namespaces)) {
      await ip('netns', 'add', name);
      await ip('-n', name, 'link', 'set', 'lo', 'up');
    }
    await join(
      { namespace: namespaces.alpha, name: 'cable0', address: `${addresses.alpha}/30` },
      {
        namespace: namespaces.beta,
        name: 'cable0',
        address: `${addresses.beta}/30`,
      },
    );
    await join(
      { namespace: namespaces.alpha, name: 'mgmt0', address: '198.51.100.2/30' },
      {
        namespace: namespaces.services,
        name: 'alpha0',
        address: '198.51.100.1/30',
      },
    );
    await join(
      { namespace: namespaces.beta, name: 'mgmt0', address: '203.0.113.2/30' },
      {
        namespace: namespaces.services,
        name: 'beta0',
        address: '203.0.113.1/30',
      },
    );
    await ip('-n', namespaces.services, 'address', 'add', `${addresses.services}/32`, 'dev', 'lo');
    await ip('-n', namespaces.alpha, 'route', 'add', addresses.services, 'via', '198.51.100.1');
    await ip('-n', namespaces.beta, 'route', 'add', addresses.services, 'via', '203.0.113.1');
  } catch (error) {
    await removeNamespaces(Object.values(namespaces));
    throw error;
  }
  return {
    namespaces,
    cable: 'cable0',
    addresses,
    [Symbol.asyncDispose]: () => removeNamespaces(Object.values(namespaces)),
  };
}

/** The words that run a command inside a namespace. */
export const inside = (namespace: string, ...command: string[]): [string, string[]] => [
  'ip',
  ['netns', 'exec', namespace, ...command],
];

interface End {
  readonly namespace: string;
  readonly name: string;
  readonly address: string;
}

async function join(one: End, other: End): Promise<void> {
  await ip(
    'link',
    'add',
    one.name,
    'netns',
    one.namespace,
    'type',
    'veth',
    'peer',
    'name',
    other.name,
    'netns',
    other.namespace,
  );
  for (const end of [one, other]) {
    await ip('-n', end.namespace, 'address', 'add', end.address, 'dev', end.name);
    await ip('-n', end.namespace, 'link', 'set', end.name, 'up');
  }
}

/** Ends what still runs inside (found by namespace, never by name) and deletes the namespaces. */
async function removeNamespaces(names: readonly string[]): Promise<void> {
  for (const name of names) {
    if (!existsSync(`/run/netns/${name}`)) continue;
    const { stdout } = await runChild('ip', ['netns', 'pids', name]);
    for (const pid of stdout.toString().trim().split('\n').filter(Boolean)) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {}
    }
    await runChild('ip', ['netns', 'delete', name]);
  }
}
