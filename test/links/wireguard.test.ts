import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { SecretArena, type SecretBuffer } from '../../src/host/arena.ts';
import { requireChild, runChild } from '../../src/host/child.ts';
import { close } from '../../src/host/libc.ts';
import { listInterfaces, NetlinkSocket } from '../../src/host/netlink.ts';
import { endProcess } from '../../src/host/pidfd.ts';
import { encodeSecretBase64 } from '../../src/keys/base64.ts';
import { generateKey, publicHalf } from '../../src/keys/sealed.ts';
import { type Removal, WireGuardLink } from '../../src/links/wireguard.ts';
import { ip, Namespace } from '../lab/namespace.ts';

/** Unique on the machine: wireguard-go's control sockets are shared between namespaces. */
const nameOf = (end: string): string => `eat1-${process.pid}${end}`;
const directory = mkdtempSync(join(tmpdir(), 'ea-wireguard-'));
const arena = SecretArena.allocate();

class Node {
  readonly namespace = new Namespace();
  readonly key: SecretBuffer;
  readonly removals: Removal[] = [];
  readonly name: string;
  readonly number: number;
  #link: WireGuardLink | undefined;

  constructor(number: number) {
    this.number = number;
    this.name = nameOf(String(number));
    this.key = generateKey(arena, this.name, 'wireguard');
  }

  get publicKey(): string {
    return publicHalf(this.key, 'wireguard') ?? '';
  }
  get address(): string {
    return `10.77.0.${this.number}`;
  }
  get link(): WireGuardLink {
    if (this.#link === undefined) throw new Error('The link is not up.');
    return this.#link;
  }

  async up(): Promise<void> {
    this.namespace.enter();
    using encoded = encodeSecretBase64(arena, this.key);
    const settings = { name: this.name, address: `${this.address}/24`, listenPort: 51_820, mtu: 1420 };
    this.#link = await WireGuardLink.up(settings, encoded, (removal) => this.removals.push(removal));
  }

  async setPeer(peer: Node, publicKey = peer.publicKey): Promise<void> {
    this.namespace.enter();
    await this.link.setPeer({
      name: 'peer',
      publicKey,
      endpoint: `192.0.2.${peer.number}:51820`,
      allowedIps: [`${peer.address}/32`],
      keepalive: 0,
    });
  }

  async ping(peer: Node): Promise<boolean> {
    this.namespace.enter();
    return (await runChild('ping', ['-c', '1', '-W', '2', peer.address])).status === 0;
  }

  async down(): Promise<void> {
    this.namespace.enter();
    await this.#link?.[Symbol.asyncDispose]();
    this.#link = undefined;
    for (const removal of this.removals.splice(0)) if ('pidfd' in removal) close(removal.pidfd);
  }
}

let alpha: Node;
let beta: Node;

beforeAll(async () => {
  alpha = new Node(1);
  beta = new Node(2);
  beta.namespace.enter();
  await ip('link', 'add', 'near0', 'type', 'veth', 'peer', 'name', 'far0');
  await ip('link', 'set', 'far0', 'netns', alpha.namespace.path);
  for (const [node, end] of [
    [beta, 'near0'],
    [alpha, 'far0'],
  ] as const) {
    node.namespace.enter();
    await ip('address', 'add', `192.0.2.${node.number}/30`, 'dev', end);
    await ip('link', 'set', end, 'up');
    await ip('link', 'set', 'lo', 'up');
  }
});
afterEach(async () => {
  await alpha.down();
  await beta.down();
});
afterAll(() => {
  alpha.namespace[Symbol.dispose]();
  beta.namespace[Symbol.dispose]();
  arena[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
});

describe('a WireGuard link', () => {
  it('joins two nodes once each has the other as its peer, and says so', async () => {
    await alpha.up();
    await beta.up();
    await alpha.setPeer(beta);
    await beta.setPeer(alpha);
    expect(await alpha.ping(beta)).toBe(true);
    alpha.namespace.enter();
    const status = await alpha.link.status();
    expect(status).toMatchObject({ name: alpha.name, type: 'wireguard', up: true });
    expect(status.peers).toMatchObject([{ name: 'peer' }]);
    const [peer] = status.peers;
    expect(Date.parse(peer?.latestHandshake ?? '')).toBeGreaterThan(Date.now() - 60_000);
    expect(peer?.sent).toBeGreaterThan(0);
    expect(peer?.received).toBeGreaterThan(0);
  });

  it('takes a new public key of a peer in place of the old one', async () => {
    await alpha.up();
    await beta.up();
    await beta.setPeer(alpha);
    using former = generateKey(arena, 'former', 'wireguard');
    await alpha.setPeer(beta, publicHalf(former, 'wireguard') ?? '');
    expect(await alpha.ping(beta)).toBe(false);
    await alpha.setPeer(beta);
    await alpha.setPeer(beta);
    const { stdout } = await requireChild('wg', ['show', alpha.name, 'peers']);
    expect(stdout.toString().trim()).toBe(beta.publicKey);
    expect(await alpha.ping(beta)).toBe(true);
  });

  it('shows its private key in no argument, no environment and no file', async () => {
    await alpha.up();
    alpha.namespace.enter();
    const { stdout } = await requireChild('wg', ['show', alpha.name, 'public-key']);
    expect(stdout.toString().trim()).toBe(alpha.publicKey);
    const forms = [
      Buffer.from(alpha.key.bytes),
      ...(['base64', 'hex'] as const).map((form) => Buffer.from(Buffer.from(alpha.key.bytes).toString(form))),
    ];
    const places = [
      ...readdirSync('/proc')
        .filter((entry) => /^\d+$/.test(entry))
        .flatMap((pid) => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`]),
      ...readdirSync(directory, { recursive: true }).map((entry) => join(directory, String(entry))),
    ];
    const found = places.filter((path) => {
      try {
        const content = readFileSync(path);
        return forms.some((form) => content.includes(form));
      } catch {
        return false; // The process has ended.
      }
    });
    expect(places.length).toBeGreaterThan(10);
    expect(found).toEqual([]);
  });

  it('is refused where an interface of its name is there, here or in another namespace', async () => {
    await alpha.up();
    await expect(alpha.up()).rejects.toMatchObject({ code: 'link-exists', kept: /not touched/ });
    const twin = new Node(1);
    if (alpha.link.backend === 'wireguard-go') {
      await expect(twin.up()).rejects.toMatchObject({ code: 'link-exists', message: /another network/ });
    }
    twin.namespace[Symbol.dispose]();
    twin.key[Symbol.dispose]();
    alpha.namespace.enter();
    expect(alpha.link.up).toBe(true);
  });

  it('goes at once by either removal that it hands out', async () => {
    await alpha.up();
    alpha.namespace.enter();
    const message = alpha.removals.find((removal) => 'message' in removal);
    if (message === undefined) throw new Error('There is no message to remove the link.');
    using netlink = new NetlinkSocket({ events: false });
    expect(netlink.request(message.message)).toBe(0);
    expect(alpha.link.up).toBe(false);
    expect(await alpha.link.status()).toMatchObject({ up: false, peers: [] });
    await alpha.down();

    await beta.up();
    const helper = beta.removals.find((removal) => 'pidfd' in removal);
    if (helper === undefined) return; // The kernel's own has no helper.
    const { ended } = beta.link;
    expect(endProcess(helper.pidfd)).toBe(true);
    await ended;
    await beta.link.ended; // Also for whoever asks late.
    beta.namespace.enter();
    expect(beta.link.up).toBe(false);
  });

  it('comes up again after its helper was killed, and leaves no control socket behind', async () => {
    await alpha.up();
    for (const removal of alpha.removals) if ('pidfd' in removal) endProcess(removal.pidfd);
    if (alpha.link.backend === 'wireguard-go') {
      await alpha.link.ended;
      expect(existsSync(`/var/run/wireguard/${alpha.name}.sock`)).toBe(true);
    }
    await alpha.down();
    expect(existsSync(`/var/run/wireguard/${alpha.name}.sock`)).toBe(false);
    await alpha.up();
    expect((await alpha.link.status()).up).toBe(true);
  });

  it('goes with the program that made it, when that is killed, and the next one is not kept from it', async () => {
    const name = nameOf('k');
    for (const _ of ['first', 'next']) {
      const keeper = spawn(process.execPath, [fileURLToPath(new URL('./keeper.ts', import.meta.url)), name], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [status] = (await once(keeper.stdout, 'data')) as [Buffer];
      expect(JSON.parse(status.toString())).toMatchObject({ name, up: true });
      expect(helpersOf(name).length).toBe(status.includes('wireguard-go') ? 1 : 0);
      keeper.kill('SIGKILL');
      await once(keeper, 'exit');
      await vi.waitFor(() => expect(helpersOf(name)).toEqual([]), { timeout: 3000 });
    }
    rmSync(`/var/run/wireguard/${name}.sock`, { force: true });
  });

  it('leaves nothing behind when its key is refused', async () => {
    alpha.namespace.enter();
    using wrong = arena.take(45, 'not a key');
    wrong.bytes.fill(0x2e);
    const settings = { name: alpha.name, address: '10.77.0.1/24', listenPort: 51_820, mtu: 1420 };
    await expect(
      WireGuardLink.up(settings, wrong, (removal) => alpha.removals.push(removal)),
    ).rejects.toMatchObject({ code: 'program-failed' });
    expect(listInterfaces().map(({ name }) => name)).not.toContain(alpha.name);
    expect(helpersOf(alpha.name)).toEqual([]);
  });

  it('says what is missing where neither the kernel nor wireguard-go can make one', async () => {
    const bin = join(directory, 'bin');
    mkdirSync(bin);
    for (const program of ['ip', 'setpriv', 'wg']) {
      const { stdout } = await requireChild('which', [program]);
      symlinkSync(stdout.toString().trim(), join(bin, program));
    }
    alpha.namespace.enter();
    if ((await runChild('ip', ['link', 'add', alpha.name, 'type', 'wireguard'])).status === 0) {
      await ip('link', 'delete', alpha.name);
      return; // The kernel can.
    }
    vi.stubEnv('PATH', bin);
    try {
      await expect(alpha.up()).rejects.toMatchObject({
        code: 'link-unavailable',
        kept: 'No key was handed out.',
        remedy: expect.stringContaining('wireguard-go'),
      });
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

/** Processes that serve an interface. */
function helpersOf(name: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return (
        /^\d+$/.test(pid) &&
        readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(`wireguard-go\0-f\0${name}\0`)
      );
    } catch {
      return false;
    }
  });
}
