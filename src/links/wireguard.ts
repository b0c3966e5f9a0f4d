// WireGuard links: the interface in the kernel, or in `wireguard-go` where the kernel has none. The private key goes from the
// secret arena through a pipe into `wg`, never through an argument, a file or a string.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import type { SecretBuffer } from '../host/arena.ts';
import { requireChild, runChild } from '../host/child.ts';
import { Failure } from '../host/failure.ts';
import { linkDeletion, listInterfaces } from '../host/netlink.ts';
import { openProcess } from '../host/pidfd.ts';
import { differences, identityOf, type LinkIdentity } from './drift.ts';

export interface WireGuardPeer {
  readonly name: string;
  /** Base64, as `wg` prints it. */
  readonly publicKey: string;
  /** host:port; absent where the peer calls. */
  readonly endpoint?: string | undefined;
  readonly allowedIps: readonly string[];
  /** Seconds; 0 is off. */
  readonly keepalive: number;
}

export interface WireGuardSettings {
  /** Interface name, at most 15 characters, unique on the machine where wireguard-go serves it. */
  readonly name: string;
  /** CIDR. */
  readonly address: string;
  readonly listenPort: number;
  readonly mtu: number;
}

/** What removes the link and its key at once; handed to the interlock before the key is set. */
export type Removal = { readonly message: Uint8Array } | { readonly pidfd: number };

export interface WireGuardStatus {
  readonly name: string;
  readonly type: 'wireguard';
  readonly backend: 'kernel' | 'wireguard-go';
  readonly up: boolean;
  readonly peers: readonly { name: string; latestHandshake: string | null; received: number; sent: number }[];
}

export class WireGuardLink implements AsyncDisposable {
  readonly settings: WireGuardSettings;
  readonly backend: 'kernel' | 'wireguard-go';
  readonly #process: ChildProcess | undefined;
  readonly #peers = new Map<string, WireGuardPeer>();
  /** As it was after the last change of our own. */
  #identity: LinkIdentity | undefined;
  /** Our own changes and looks, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(settings: WireGuardSettings, process: ChildProcess | undefined) {
    this.settings = settings;
    this.#process = process;
    this.backend = process === undefined ? 'kernel' : 'wireguard-go';
  }

  /**
   * Creates the interface and gives it the key. `keyBase64` is the encoded private key and a newline.
   * @param onRemoval called with each way to take the key away, before the key is there.
   * @throws Failure `link-exists`, `link-unavailable`.
   */
  static async up(
    settings: WireGuardSettings,
    keyBase64: SecretBuffer,
    onRemoval: (removal: Removal) => void,
  ): Promise<WireGuardLink> {
    if (listInterfaces().some((link) => link.name === settings.name)) {
      throw exists(settings.name, 'already');
    }
    const helper = await createInterface(settings.name);
    const link = new WireGuardLink(settings, helper);
    try {
      const index = listInterfaces().find((candidate) => candidate.name === settings.name)?.index;
      if (index === undefined) throw unavailable(settings.name, 'the interface did not appear');
      onRemoval({ message: linkDeletion(index) });
      if (helper?.pid !== undefined) onRemoval({ pidfd: openProcess(helper.pid) });
      await requireChild(
        'wg',
        ['set', settings.name, 'listen-port', `${settings.listenPort}`, 'private-key', '/dev/stdin'],
        { input: keyBase64.bytes },
      );
      await requireChild('ip', ['address', 'add', settings.address, 'dev', settings.name]);
      await requireChild('ip', ['link', 'set', settings.name, 'mtu', `${settings.mtu}`, 'up']);
      link.#identity = await link.#look();
      return link;
    } catch (error) {
      await link[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Adds a peer, or changes it: a new public key takes the old one's place. */
  setPeer(peer: WireGuardPeer): Promise<void> {
    return this.#inTurn(() => this.#setPeer(peer));
  }

  /** How many things of the link are not as this node has set them; 0 while all is well. */
  changes(): Promise<number> {
    return this.#inTurn(async () => {
      const seen = await this.#look();
      if (this.#identity === undefined || seen === undefined) return seen === this.#identity ? 0 : 1;
      return differences(this.#identity, seen);
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => {});
    return mine;
  }

  /** Undefined where the link cannot be asked. */
  async #look(): Promise<LinkIdentity | undefined> {
    const [key, ips] = await Promise.all(
      ['public-key', 'allowed-ips'].map((what) => runChild('wg', ['show', this.settings.name, what])),
    );
    if (key?.status !== 0 || ips?.status !== 0) return undefined;
    return identityOf(key.stdout.toString(), ips.stdout.toString());
  }

  async #setPeer(peer: WireGuardPeer): Promise<void> {
    const former = this.#peers.get(peer.name);
    if (former !== undefined && JSON.stringify(former) === JSON.stringify(peer)) return;
    if (former !== undefined && former.publicKey !== peer.publicKey) {
      await requireChild('wg', ['set', this.settings.name, 'peer', former.publicKey, 'remove']);
    }
    await requireChild('wg', [
      'set',
      this.settings.name,
      'peer',
      peer.publicKey,
      ...(peer.endpoint === undefined ? [] : ['endpoint', peer.endpoint]),
      'persistent-keepalive',
      `${peer.keepalive}`,
      'allowed-ips',
      peer.allowedIps.join(','),
    ]);
    this.#peers.set(peer.name, peer);
    this.#identity = await this.#look();
  }

  /** True while the interface is there. */
  get up(): boolean {
    return listInterfaces().some((link) => link.name === this.settings.name);
  }

  /** Resolves when the userspace helper ends; never for a kernel interface. */
  get ended(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const helper = this.#process;
    if (helper !== undefined && hasEnded(helper)) resolve();
    else helper?.once('exit', () => resolve());
    return promise;
  }

  async status(): Promise<WireGuardStatus> {
    const { name } = this.settings;
    const up = this.up;
    // `wg show NAME dump` would print the private key: only what names no secret is asked for.
    const handshakes = up ? await columns(name, 'latest-handshakes') : new Map<string, string[]>();
    const transfer = up ? await columns(name, 'transfer') : new Map<string, string[]>();
    return {
      name,
      type: 'wireguard',
      backend: this.backend,
      up,
      peers: [...this.#peers.values()].map((peer) => {
        const seconds = Number(handshakes.get(peer.publicKey)?.[0] ?? 0);
        const [received = '0', sent = '0'] = transfer.get(peer.publicKey) ?? [];
        return {
          name: peer.name,
          latestHandshake: seconds === 0 ? null : new Date(seconds * 1000).toISOString(),
          received: Number(received),
          sent: Number(sent),
        };
      }),
    };
  }

  /** Removes the interface and ends the helper; what is already gone is no error. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.up) await runChild('ip', ['link', 'delete', this.settings.name]);
    const helper = this.#process;
    if (helper === undefined) return;
    if (!hasEnded(helper)) {
      helper.kill('SIGKILL');
      await once(helper, 'exit');
    }
    rmSync(controlSocket(this.settings.name), { force: true });
  }
}

const hasEnded = (helper: ChildProcess): boolean => helper.exitCode !== null || helper.signalCode !== null;

/** One `wg show` sub-table: peer's public key -> its columns. */
async function columns(name: string, table: string): Promise<Map<string, string[]>> {
  const { stdout } = await runChild('wg', ['show', name, table]);
  return new Map(
    stdout
      .toString()
      .trim()
      .split('\n')
      .map((line) => line.split('\t'))
      .map(([key = '', ...rest]) => [key, rest]),
  );
}

/** Returns the helper process, or undefined where the kernel made the interface. */
async function createInterface(name: string): Promise<ChildProcess | undefined> {
  const kernel = await runChild('ip', ['link', 'add', name, 'type', 'wireguard']);
  if (kernel.status === 0) return undefined;
  await clearControlSocket(name);
  // The parent-death signal takes the helper, and with it the interface and the key, when this program is killed.
  const helper = spawn('setpriv', ['--pdeathsig', 'KILL', 'wireguard-go', '-f', name], {
    stdio: 'ignore',
    env: { PATH: process.env.PATH, LOG_LEVEL: 'silent' },
  });
  let problem: string | undefined;
  helper.once('error', (error) => {
    problem = error.message;
  });
  helper.once('exit', (status) => {
    problem = `wireguard-go ended with ${status}`;
  });
  for (let waited = 0; waited < 5000 && problem === undefined; waited += 10) {
    if (existsSync(controlSocket(name)) && listInterfaces().some((link) => link.name === name)) {
      return helper;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  helper.kill('SIGKILL');
  throw unavailable(name, problem ?? 'wireguard-go did not become ready');
}

const controlSocket = (name: string): string => `/var/run/wireguard/${name}.sock`;

/** A helper that was killed leaves its socket, on which `wg` would find nobody. One that answers serves another namespace. */
async function clearControlSocket(name: string): Promise<void> {
  const path = controlSocket(name);
  if (!existsSync(path)) return;
  const socket = createConnection(path);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.once('connect', () => resolve(true));
  socket.once('error', () => resolve(false));
  const answered = await promise;
  socket.destroy();
  if (answered) throw exists(name, 'in another network namespace already');
  rmSync(path, { force: true });
}

function exists(name: string, where: string): Failure {
  return new Failure('link-exists', `There is an interface ${name} ${where}.`, {
    kept: 'It was not touched, and no key was handed out.',
    remedy: `Remove it (\`ip link delete ${name}\`) or give the link another name.`,
  });
}

function unavailable(name: string, why: string): Failure {
  return new Failure('link-unavailable', `The WireGuard link ${name} could not be brought up: ${why}.`, {
    kept: 'No key was handed out.',
    remedy:
      'The kernel has no WireGuard here: install it (`apt-get install wireguard-go`), and see that /dev/net/tun exists.',
  });
}
