import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
} from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readRows } from '../../src/alerts/outbox.ts';
import { SecretArena } from '../../src/host/arena.ts';
import { runChild } from '../../src/host/child.ts';
import { findUser } from '../../src/host/privileges.ts';
import type { LabNode } from '../lab/node.ts';
import { unsealByForce } from '../lab/unseal.ts';
import { startWebhook, type Webhook } from '../lab/webhook.ts';
import { childrenOf, contentOf, courierOf, labNode, profile, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

/** A copy for the search; the test is the only place that has one. */
async function unsealedCopy(node: LabNode, name: string): Promise<Buffer> {
  using arena = SecretArena.allocate({ byteLength: 8192 });
  using key = await unsealByForce(node, arena, name);
  return Buffer.from(key.bytes);
}

/** The forms in which a key would be found if it had got out. */
const formsOf = (key: Buffer): Buffer[] => [
  key,
  ...['base64', 'base64url', 'hex'].map((form) =>
    Buffer.from(key.toString(form as 'base64').replace(/=+$/, '')),
  ),
  Buffer.from(key.toString('hex').toUpperCase()),
  Buffer.from([...key].join(',')),
];

const holds = (haystack: Buffer, needles: readonly Buffer[]): boolean =>
  needles.some((needle) => haystack.includes(needle));

/** Files below a directory that hold one of the needles, those inside archives included. */
function filesWith(directory: string, needles: readonly Buffer[]): string[] {
  return [...contentOf(directory)]
    .filter(
      ([path, bytes]) => holds(bytes, needles) || (path.endsWith('.gz') && holds(gunzipSync(bytes), needles)),
    )
    .map(([path]) => path);
}

/** How often a needle occurs in the readable memory of a process. */
function memoryHits(pid: number, needle: Buffer): number {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const block = Buffer.alloc(4 << 20);
  const overlap = needle.length - 1;
  let hits = 0;
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from = '', to = '', name = ''] =
        /^([0-9a-f]+)-([0-9a-f]+) r\S+ \S+ \S+ \S+ *(.*)$/.exec(line) ?? [];
      if (from === '' || name.startsWith('[v') || name.startsWith('/')) continue;
      const end = BigInt(`0x${to}`);
      for (let at = BigInt(`0x${from}`); at < end; ) {
        let size: number;
        try {
          const wanted = Number(end - at < BigInt(block.length) ? end - at : BigInt(block.length));
          size = readSync(memory, block, 0, wanted, at as unknown as number);
        } catch {
          break; // A guard page, or reserved and never touched.
        }
        if (size === 0) break;
        const read = block.subarray(0, size);
        for (let hit = read.indexOf(needle); hit !== -1; hit = read.indexOf(needle, hit + 1)) hits += 1;
        at += BigInt(size);
        if (at < end && size > overlap) at -= BigInt(overlap);
      }
    }
  } finally {
    closeSync(memory);
  }
  return hits;
}

const commandAndEnvironment = (pid: number): Buffer =>
  Buffer.concat(['cmdline', 'environ'].map((name) => readFileSync(`/proc/${pid}/${name}`)));
const statusOf = (pid: number, field: string): string =>
  new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';

describe('the WireGuard private key of a node with a TPM', () => {
  const planted = Buffer.from('planted-in-a-file-of-the-test-0123456789');
  let node: LabNode;
  let webhook: Webhook;
  let key: Buffer;
  let seed: Buffer;
  let courier: number;
  beforeAll(async () => {
    webhook = await startWebhook();
    const { uid, gid } = findUser('nobody');
    mkdirSync(scratch.at('target'));
    chownSync(scratch.at('target'), uid, gid);
    node = await labNode(scratch, 'secrets', {
      tpm: true,
      sigstore: true,
      courierUser: 'nobody',
      configuration: `
[courier]
user = "nobody"
[forensics]
upload = "file://${scratch.at('target')}"
[[alerts.channels]]
url = "${webhook.url('json')}"
[[links]]
name = "${`ea-s-${process.pid}`.slice(0, 15)}"
address = "10.213.78.1/30"
listen_port = 0
`,
    });
    await node.ask(['provision', '--profile', profile('leaf')]);
    key = await unsealedCopy(node, 'wireguard');
    seed = await unsealedCopy(node, 'drbg-seed');
    await node.run();
    courier = await courierOf(node);
    await until('the courier has given up root', () =>
      statusOf(courier, 'Uid').startsWith('0') ? undefined : true,
    );
  });
  afterAll(async () => {
    await node[Symbol.asyncDispose]();
    await webhook.stop();
  });

  it('is where it belongs while the node runs: the search finds it in the memory of the daemon', () => {
    expect(key).toHaveLength(32);
    expect(memoryHits(node.pid, key)).toBeGreaterThan(0);
    expect(memoryHits(node.pid, seed)).toBeGreaterThan(0);
  });

  it('is in no argument and no environment of the daemon, its courier or its helpers', () => {
    const pids = [node.pid, ...childrenOf(node.pid).map(({ pid }) => pid)];
    expect(pids).toHaveLength(process.getuid?.() === 0 && !existsSync('/sys/module/wireguard') ? 3 : 2);
    for (const pid of pids) expect(holds(commandAndEnvironment(pid), formsOf(key))).toBe(false);
  });

  it('is not known to the courier, which runs as its own user with no way back to root', () => {
    const { uid, gid } = findUser('nobody');
    expect(statusOf(courier, 'Uid')).toBe([uid, uid, uid, uid].join('\t'));
    expect(statusOf(courier, 'Gid')).toBe([gid, gid, gid, gid].join('\t'));
    expect(statusOf(courier, 'NoNewPrivs')).toBe('1');
    expect(statusOf(courier, 'CapEff')).toMatch(/^0+$/);
    expect(memoryHits(courier, Buffer.from('esoteric-appliance'))).toBeGreaterThan(0);
    for (const secret of [key, seed]) {
      for (const form of formsOf(secret)) expect(memoryHits(courier, form)).toBe(0);
    }
  });

  it('is gone from the memory of the daemon after a zeroize', async () => {
    await node.ask(['zeroize', '--reason', 'a test']);
    for (const secret of [key, seed]) {
      for (const form of formsOf(secret)) expect(memoryHits(node.pid, form)).toBe(0);
    }
  });

  it('has reached no file, bundle, spool, log or journal by the end of the run, where a planted copy is found', async () => {
    await until('everything is delivered', () => {
      const rows = readRows(`${node.stateDirectory}/courier/outbox.sqlite`);
      return rows.length === 2 && rows.every(({ state }) => state === 'delivered') ? rows : undefined;
    });
    await node.journald.flush();
    await node.stop();
    const journal = await runChild('journalctl', [
      `--namespace=${node.journald.namespace}`,
      '--output=export',
      '--all',
    ]);
    expect(journal.stdout.includes('is running.')).toBe(true);
    const told = [node.log, journal.stdout, ...webhook.received.map(({ text }) => text)].map((text) =>
      Buffer.from(text),
    );
    expect(told.length).toBeGreaterThan(2);
    for (const secret of [key, seed]) {
      expect(filesWith(scratch.path, formsOf(secret))).toEqual([]);
      for (const text of told) expect(holds(text, formsOf(secret))).toBe(false);
    }
    // As a control, the same search for what does lie there: in a file, and inside the archive of the bundle.
    const file = scratch.at('planted');
    for (const form of formsOf(planted)) {
      writeFileSync(file, Buffer.concat([Buffer.from('before'), form, Buffer.from('after')]));
      expect(filesWith(scratch.path, formsOf(planted))).toEqual([file]);
    }
    const archives = filesWith(scratch.path, [Buffer.from('zeroize-certified')]);
    expect(archives.filter((path) => path.endsWith('.tar.gz'))).toHaveLength(2);
  });
});
