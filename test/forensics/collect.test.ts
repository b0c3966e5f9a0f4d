// Collection under bad luck: every collector's fate is told, none stops the others, and no planted secret gets out.
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Collector, collectInto, measure } from '../../src/forensics/collect.ts';
import { bundleFormat, sha256 } from '../../src/forensics/format.ts';
import { hostCollectors } from '../../src/forensics/host-state.ts';
import { readCollected } from '../../src/forensics/member-file.ts';
import { packBundle } from '../../src/forensics/pack.ts';
import { Redactor } from '../../src/forensics/redact.ts';
import { Room } from '../../src/forensics/room.ts';
import { softwareCollectors } from '../../src/forensics/software.ts';
import { readArchive } from '../../src/forensics/unpack.ts';
import { defaultVerifyPolicy } from '../../src/forensics/verify-policy.ts';
import { requireChild } from '../../src/host/child.ts';
import { exported, journalEntry } from '../lab/export.ts';
import { memoryDisk, memoryDiskMissing } from '../lab/memory-disk.ts';
import { caseKey, compareRecords, rules } from './sample.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-collect-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const redactor = new Redactor({ rules, key: caseKey });
const collector = (path: string, gather: Collector['gather'], more: Partial<Collector> = {}): Collector => ({
  name: path,
  path,
  source: 'a test',
  volatility: 'disk',
  limitBytes: 1 << 20,
  redact: false,
  gather,
  ...more,
});
const written = (): number =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
/** What the manifest says of a file is what lies there. */
const asListed = (file: { path: string; size: number; sha256: string } | undefined) => {
  const bytes = readCollected(directory, file?.path ?? '');
  expect({ size: bytes.length, sha256: sha256(bytes) }).toEqual({ size: file?.size, sha256: file?.sha256 });
};
const text = (path: string) => readCollected(directory, path).toString('utf8');
/** What deflate makes no shorter by more than half, and a disk is filled by. */
const noise = (characters: number) => randomBytes(characters / 2).toString('hex');

describe('collection', () => {
  it('takes what is given as text, bytes or a stream', async () => {
    const { files, collectors } = await collectInto(
      { path: directory },
      [
        collector('b.txt', async () => 'text'),
        collector('a/bytes.bin', async () => Uint8Array.of(1, 2, 3)),
        collector('a/stream.txt', async function* () {
          yield 'one ';
          yield Buffer.from('two');
        }),
        collector('none.txt', async () => ''),
      ],
      { timeoutMilliseconds: 1000 },
    );
    expect(files.map(({ path, size }) => [path, size])).toEqual([
      ['a/bytes.bin', 3],
      ['a/stream.txt', 7],
      ['b.txt', 4],
      ['none.txt', 0],
    ]);
    expect(collectors.map(({ status }) => status)).toEqual(['ok', 'ok', 'ok', 'empty']);
    expect(text('a/stream.txt')).toBe('one two');
    expect(files[1]?.sha256).toBe(sha256('one two'));
  });

  it('records a collector that fails, throws at once, hangs or floods, and goes on', async () => {
    const aborted: string[] = [];
    const flood = async function* () {
      for (;;) yield 'x'.repeat(1000);
    };
    const told: string[] = [];
    const { files, collectors } = await collectInto(
      { path: directory },
      [
        collector('rejects.txt', async () => Promise.reject(new Error('no such journal'))),
        collector('throws.txt', () => {
          throw new Error('at once');
        }),
        collector('hangs.txt', (signal) => {
          signal.addEventListener('abort', () => aborted.push('hangs'));
          return new Promise<string>(() => undefined);
        }),
        collector('half.txt', async function* () {
          yield 'the first half';
          await new Promise(() => undefined);
        }),
        collector('breaks.txt', async function* () {
          yield 'before';
          throw new Error('broke');
        }),
        collector('floods.txt', flood, { limitBytes: 2500 }),
        collector('fine.txt', async () => 'fine'),
        collector('../escape.txt', async () => 'no'),
        collector('FINE.txt', async () => 'twice'),
      ],
      { timeoutMilliseconds: 150, onProgress: ({ name }) => told.push(name) },
    );
    const fate = Object.fromEntries(
      collectors.map(({ name, status, detail }) => [name, `${status}: ${detail}`]),
    );
    expect(fate).toEqual({
      'rejects.txt': 'failed: It failed: no such journal. (0 bytes kept)',
      'throws.txt': 'failed: It failed: at once. (0 bytes kept)',
      'hangs.txt': 'failed: It failed: it did not end within 150 ms. (0 bytes kept)',
      'half.txt': 'failed: It failed: it did not end within 150 ms. (14 bytes kept)',
      'breaks.txt': 'failed: It failed: broke. (6 bytes kept)',
      'floods.txt': 'truncated: It was cut off at its limit of 2500 bytes. (2500 bytes kept)',
      'fine.txt': 'ok: 4 bytes',
      '../escape.txt': 'failed: Its path ../escape.txt is not usable.',
      'FINE.txt': 'failed: Its path FINE.txt is not usable.',
    });
    expect(files.map(({ path }) => path)).toEqual(['breaks.txt', 'fine.txt', 'floods.txt', 'half.txt']);
    expect(files[3]).toMatchObject({ size: 14, error: expect.stringMatching(/150 ms/) });
    expect(aborted).toEqual(['hangs']);
    expect(told).toHaveLength(9);
    expect(existsSync(join(directory, '../escape.txt'))).toBe(false);
  });

  it('redacts what is to be redacted, counts it and records it beside', async () => {
    const given = 'peer 10.0.0.1\npassword=hunter2 10.0.0.1\n';
    const { files } = await collectInto(
      { path: directory },
      [
        collector('host/a.txt', async () => given, { redact: true }),
        collector('host/b.txt', async () => given),
        collector('host/c.txt', async () => 'nothing to hide', { redact: true }),
      ],
      { timeoutMilliseconds: 1000, redactor },
    );
    expect(files.map(({ path }) => path)).toEqual([
      'host/a.txt',
      'host/b.txt',
      'host/c.txt',
      'redaction/host/a.txt.jsonl',
    ]);
    expect(files[0]).toMatchObject({
      redactions: [
        { rule: 'ipv4-address', count: 2 },
        { rule: 'password', count: 1 },
      ],
      redactionRecords: 'redaction/host/a.txt.jsonl',
    });
    expect(text('host/a.txt')).not.toMatch(/10\.0\.0\.1|hunter2/);
    expect(files[0]?.sha256).toBe(sha256(text('host/a.txt')));
    expect(text('host/b.txt')).toBe(given);
    const records = text('redaction/host/a.txt.jsonl')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(records).toHaveLength(3);
    expect(records[0]).toEqual({
      line: 1,
      rule: 'ipv4-address',
      hmac: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(text('redaction/host/a.txt.jsonl')).not.toMatch(/hunter2/);
  });

  it('can be repeated into the same directory', async () => {
    const once = () =>
      collectInto({ path: directory }, [collector('a.txt', async () => 'same')], {
        timeoutMilliseconds: 1000,
      });
    expect(await once()).toEqual(await once());
  });
});

describe('the order of collection', () => {
  it('is that of volatility, and told with the time at which each was begun', async () => {
    let tick = 0;
    const begun: string[] = [];
    const given = (['archive', 'disk', 'memory', 'configuration', 'temporary'] as const).map((volatility) =>
      collector(
        `${volatility}.txt`,
        async () => {
          begun.push(volatility);
          return volatility;
        },
        { volatility },
      ),
    );
    const { collectors } = await collectInto({ path: directory }, given, {
      timeoutMilliseconds: 1000,
      clock: () => `2026-11-20T16:30:0${tick++}Z`,
    });
    const order = ['memory', 'temporary', 'disk', 'configuration', 'archive'];
    expect(begun).toEqual(order);
    expect(collectors.map(({ volatility }) => volatility)).toEqual(order);
    expect(collectors.map(({ started }) => started)).toEqual(
      order.map((_, at) => `2026-11-20T16:30:0${at}Z`),
    );
  });

  it('holds the less volatile back for a while only: one that hangs delays them, and no longer', async () => {
    const hanging = collector('hangs.txt', () => new Promise<string>(() => {}), { volatility: 'memory' });
    const fine = collector('fine.txt', async () => 'fine');
    const told: string[] = [];
    await collectInto({ path: directory }, [hanging, fine], {
      timeoutMilliseconds: 400,
      patienceMilliseconds: 20,
      onProgress: ({ name }) => told.push(name),
    });
    expect(told).toEqual(['fine.txt', 'hangs.txt']);
  });
});

describe('a disk that is nearly full', () => {
  const flood = (chunk: number) =>
    async function* () {
      for (;;) yield Array.from({ length: chunk }, () => `a peer 10.0.0.1 ${noise(1000)}\n`).join('');
    };
  it('has a journal cut where its records tell all that was replaced', async () => {
    const entries = (from: number) =>
      exported(
        Array.from({ length: 200 }, (_, at) =>
          journalEntry(from + at, [
            ['_HOSTNAME', 'node1'],
            ['MESSAGE', `peer 10.0.${at}.1 ${noise(64)}`],
          ]),
        ),
      );
    const room = new Room(() => (2 << 20) - written());
    const journal = new Redactor({ rules, key: caseKey, hosts: ['node1'] });
    const { files, collectors } = await collectInto(
      { path: directory },
      [
        collector(
          'journal.export',
          async function* () {
            for (let from = 0; ; from += 200) yield entries(from);
          },
          { redact: true, form: 'journal', limitBytes: 1 << 30 },
        ),
      ],
      { timeoutMilliseconds: 60_000, redactor: journal, room },
    );
    expect(collectors[0]).toMatchObject({ status: 'truncated' });
    const [member, records] = files;
    const read = (path = '') => readCollected(directory, path);
    expect(member?.redactions.map(({ rule }) => rule)).toEqual(['host-name', 'ipv4-address']);
    expect(compareRecords(read(member?.path), read(records?.path), member?.redactions ?? [])).toBeUndefined();
  });

  it('has the largest member cut, with its records, and leaves the others their share', async () => {
    const room = new Room(() => (4 << 20) - written());
    const { files, collectors } = await collectInto(
      { path: directory },
      [
        collector('journal.txt', flood(20), {
          volatility: 'memory',
          redact: true,
          yields: true,
          limitBytes: 1 << 30,
        }),
        collector('small.txt', async () => noise(400_000)),
      ],
      { timeoutMilliseconds: 10_000, redactor, room },
    );
    expect(collectors.map(({ name, status }) => [name, status])).toEqual([
      ['journal.txt', 'truncated'],
      ['small.txt', 'ok'],
    ]);
    expect(collectors[0]?.detail).toMatch(/disk is nearly full/);
    const [journal, records] = files;
    expect([journal?.path, records?.path]).toEqual(['journal.txt', 'redaction/journal.txt.jsonl']);
    asListed(journal);
    asListed(records);
    const pseudonyms = text('journal.txt').match(/‹ip:[0-9a-f]{8}›/g) ?? [];
    expect(text('redaction/journal.txt.jsonl').split('\n')).toHaveLength(pseudonyms.length + 1);
    expect(journal?.redactions).toEqual([{ rule: 'ipv4-address', count: pseudonyms.length }]);
    // Each byte would fit a second time, in the archive.
    const taken = written();
    expect(taken).toBeGreaterThan(1 << 20);
    expect(2 * taken).toBeLessThanOrEqual(4 << 20);
  });

  it('is looked at again and again: what others write meanwhile counts', async () => {
    let free = 64 << 20;
    const room = new Room(() => free - written());
    const { files } = await collectInto(
      { path: directory },
      [
        collector(
          'journal.txt',
          async function* () {
            for (let chunk = 0; ; chunk += 1) {
              if (chunk === 8) free = 6 << 20;
              yield randomBytes(1 << 19);
            }
          },
          { limitBytes: 1 << 30 },
        ),
      ],
      { timeoutMilliseconds: 10_000, room },
    );
    // Four MiB lie there by then, and the archive of them has two.
    expect(files[0]?.size).toBeLessThanOrEqual(5 << 20);
  });

  const missing = memoryDiskMissing();
  it.skipIf(missing !== undefined)(
    `ends a member where it is full at last, and what is listed is what lies there${missing ? ` (skipped: ${missing})` : ''}`,
    async () => {
      using disk = memoryDisk(directory, '1m');
      const { files, collectors } = await collectInto(
        { path: directory },
        [
          collector('small.txt', async () => 'small', { volatility: 'memory' }),
          collector('flood.txt', flood(20), { redact: true, limitBytes: 1 << 30 }),
        ],
        { timeoutMilliseconds: 10_000, redactor },
      );
      expect(disk.free()).toBeLessThan(1 << 19);
      expect(collectors.map(({ name, status }) => [name, status])).toEqual([
        ['small.txt', 'ok'],
        ['flood.txt', 'truncated'],
      ]);
      for (const file of files) asListed(file);
      expect(files.map(({ path }) => path)).toContain('flood.txt');
    },
  );
});

describe('what others need', () => {
  it('is left to them by a member that yields, however large that is', async () => {
    const mebibyte = 1 << 20;
    const room = new Room(() => 60 * mebibyte - written(), 20 * mebibyte);
    const { files } = await collectInto(
      { path: directory },
      [
        collector(
          'journal.txt',
          async function* () {
            for (let at = 0; at < 64; at += 1) yield randomBytes(mebibyte);
          },
          { volatility: 'memory', limitBytes: 1 << 30, yields: true },
        ),
        collector('custody.jsonl', async () => randomBytes(19 * mebibyte), { limitBytes: 1 << 30 }),
      ],
      { timeoutMilliseconds: 10_000, room },
    );
    const sizes = Object.fromEntries(files.map(({ path, size }) => [path, size / mebibyte]));
    expect(sizes['custody.jsonl']).toBe(19);
    expect(sizes['journal.txt']).toBeGreaterThan(5);
  });
});

describe('a journal that ends malformed', () => {
  it('fails by itself, keeps what was good, and the others are whole', async () => {
    const bad = Buffer.concat([
      exported([journalEntry(0, [['MESSAGE', 'good']])]),
      Buffer.from('\n=no name\n'),
    ]);
    const { files, collectors } = await collectInto(
      { path: directory },
      [
        collector('entries.export', async () => bad, { redact: true, form: 'journal' }),
        collector('fine.txt', async () => 'fine'),
      ],
      { timeoutMilliseconds: 5000, redactor },
    );
    expect(collectors.map(({ name, status }) => [name, status])).toEqual([
      ['entries.export', 'failed'],
      ['fine.txt', 'ok'],
    ]);
    for (const file of files) asListed(file);
  });
});

describe('a collector that gives more than its limit', () => {
  it('is asked for less, where it can give that, and nothing stays of what it gave first', async () => {
    const gather = async function* () {
      for (;;) yield `old ${noise(100_000)} 10.0.0.1\n`;
    };
    const rooms: unknown[] = [];
    const room = new Room(() => (64 << 20) - written());
    const one = collector('journal.txt', gather, {
      limitBytes: 3 << 20,
      redact: true,
      gatherLess: async function* (_, left) {
        rooms.push(left);
        yield 'new 10.0.0.2\n';
        return 'Only the newest.';
      },
    });
    const { files, collectors } = await collectInto({ path: directory }, [one], {
      timeoutMilliseconds: 10_000,
      redactor,
      room,
    });
    expect(rooms).toEqual([undefined]);
    expect(room.left).toBeGreaterThan((32 << 20) - 1000);
    expect(collectors).toMatchObject([{ status: 'truncated', detail: 'Only the newest. (22 bytes kept)' }]);
    expect(text('journal.txt')).toMatch(/^new \S+\n$/);
    expect(text('redaction/journal.txt.jsonl').split('\n')).toHaveLength(2);
    expect(files[0]).toMatchObject({ redactions: [{ rule: 'ipv4-address', count: 1 }] });
    for (const file of files) asListed(file);
  });
});

describe('what was collected', () => {
  const entries = Array.from({ length: 12_000 }, (_, n) =>
    journalEntry(n, [
      ['_UID', '0'],
      ['MESSAGE', n % 3 === 0 ? `from 10.0.${n % 7}.1` : `at ${n}\n of ${n % 11}`],
    ]),
  );
  const journal = exported(entries);
  const collect = async (into: string, chunk: number) => {
    const gather = async function* () {
      for (let at = 0; at < journal.length; at += chunk) yield journal.subarray(at, at + chunk);
    };
    const one = collector('entries.export', gather, { redact: true, form: 'journal', limitBytes: 1 << 30 });
    const small = collector('small.txt', async () => 'small\n');
    const collected = await collectInto({ path: into }, [small, one], {
      timeoutMilliseconds: 10_000,
      redactor,
    });
    return { ...collected, into };
  };
  const pack = async ({ files, collectors, into }: Awaited<ReturnType<typeof collect>>) => {
    const assurance = { tpm: 'bypassed' as const, sigstore: 'bypassed' as const, standIns: [], notes: [] };
    const about = {
      format: bundleFormat,
      node: 'alpha',
      sequence: 1,
      created: '2026-11-20T16:30:00Z',
    } as const;
    const manifest = { ...about, reason: 'a test', assurance, files, collectors, redaction: null };
    await packBundle(into, manifest, `${into}.tar.gz`);
    return readFileSync(`${into}.tar.gz`);
  };

  it('becomes the same archive in however many pieces it came, and what every tool reads', async () => {
    expect(journal.length).toBeGreaterThan(2 << 20);
    const archive = await pack(await collect(join(directory, 'a'), 65_536));
    expect((await pack(await collect(join(directory, 'b'), 1001))).equals(archive)).toBe(true);
    const { members } = await readArchive(archive, defaultVerifyPolicy.limits, () => true);
    const found = new Map(members.map(({ path, bytes }) => [path, Buffer.from(bytes ?? [])]));
    for (const path of ['small.txt', 'entries.export', 'redaction/entries.export.jsonl'])
      expect(found.get(path)?.equals(readCollected(join(directory, 'a'), path))).toBe(true);
    await requireChild('gzip', ['--test', join(directory, 'a.tar.gz')]);
    const { stdout } = await requireChild('tar', ['--list', '--gzip', '--file', join(directory, 'a.tar.gz')]);
    expect(stdout.toString().split('\n')).toEqual([...found.keys(), '']);
  });

  it('cannot be packed when a byte of it is gone', async () => {
    const collected = await collect(join(directory, 'a'), 65_536);
    const file = join(directory, 'a/entries.export.gz');
    truncateSync(file, statSync(file).size - 1);
    await expect(pack(collected)).rejects.toThrow(/entries\.export is not as it was collected/);
  });
});

describe('a rehearsal', () => {
  it('tells how much each gives, and writes nothing', async () => {
    const grown: number[] = [];
    const measured = await measure(
      [
        collector('fails.txt', async () => Promise.reject(new Error('no'))),
        collector(
          'large.txt',
          async function* () {
            for (let at = 0; at < 4; at += 1) yield Buffer.alloc(1 << 20);
          },
          { limitBytes: 1 << 30 },
        ),
        collector('floods.txt', async () => 'x'.repeat(100), { limitBytes: 10 }),
      ],
      { timeoutMilliseconds: 1000, onGrowth: (_, bytes) => grown.push(bytes >> 20) },
    );
    expect(measured.map(({ outcome, bytes }) => [outcome.status, bytes])).toEqual([
      ['failed', 0],
      ['ok', 4 << 20],
      ['truncated', 10],
    ]);
    expect(grown).toEqual([1, 2, 3, 4]);
    expect(existsSync(join(directory, 'large.txt'))).toBe(false);
  });
});

describe('the software of this host', () => {
  it('is told by digest and package: what runs, what it runs, and what it consists of', async () => {
    const root = join(directory, 'root');
    mkdirSync(join(root, 'policies'), { recursive: true });
    writeFileSync(join(root, 'package.json'), '{}');
    writeFileSync(join(root, 'policies/rules.toml'), 'x = 1\n');
    const { collectors } = await collectInto({ path: directory }, softwareCollectors(root), {
      timeoutMilliseconds: 30_000,
    });
    expect(collectors.map(({ status }) => status)).toEqual(['ok', 'ok']);
    const lines = text('host/binaries.jsonl')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { path: string; sha256: string | null; package?: string });
    const of = (end: string) => lines.find(({ path }) => path.endsWith(end));
    expect(of(process.execPath)?.sha256).toBe(sha256(readFileSync(process.execPath)));
    expect(of('/policies/rules.toml')?.sha256).toBe(sha256('x = 1\n'));
    expect(of('/node_modules/.package-lock.json')).toMatchObject({ sha256: null });
    // The C library belongs to a package, whatever distribution this is.
    expect(lines.find(({ path }) => /\/libc\.so\.6$/.test(path))?.package).toMatch(/^\S+ \S+/);
    expect(text('host/packages.tsv').length).toBeGreaterThan(100);
  });

  it('is said to be unknown with what each package manager said', async () => {
    const programs = join(directory, 'programs');
    mkdirSync(programs);
    writeFileSync(join(programs, 'dpkg-query'), '#!/bin/sh\nkill -SEGV $$\n', { mode: 0o755 });
    vi.stubEnv('PATH', programs);
    const packages = softwareCollectors(directory).filter(({ name }) => name === 'host packages');
    const { collectors } = await collectInto({ path: directory }, packages, { timeoutMilliseconds: 5000 });
    vi.unstubAllEnvs();
    expect(collectors[0]?.detail).toMatch(
      /: `dpkg-query --show …` ended with a signal: it said nothing; The program `rpm`/,
    );
  });
});

describe('the state of this host', () => {
  it('is collected, readable, and without an address once redacted', async () => {
    const { collectors } = await collectInto({ path: directory }, hostCollectors(), {
      timeoutMilliseconds: 10_000,
      redactor,
    });
    const fate = Object.fromEntries(collectors.map(({ name, status }) => [name, status]));
    expect(fate).toMatchObject({
      'host links': 'ok',
      'host addresses': 'ok',
      'host routes': 'ok',
      'host processes': 'ok',
      'host mounts': 'ok',
      'host versions': 'ok',
    });
    expect(JSON.parse(text('host/links.json'))).toEqual(
      expect.arrayContaining([expect.objectContaining({ ifname: 'lo' })]),
    );
    expect(text('host/addresses.json')).not.toContain('127.0.0.1');
    const processes = text('host/processes.jsonl')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const own = {
      pid: process.pid,
      uid: process.getuid?.(),
      executable: realpathSync('/proc/self/exe'),
      controlGroup: expect.stringMatching(/^\//),
    };
    expect(processes).toContainEqual(expect.objectContaining(own));
    const mounts = readFileSync('/proc/1/mounts', 'utf8').split(' ');
    expect(text('host/mounts.txt').split(' ')).toHaveLength(mounts.length);
    expect(JSON.parse(text('host/versions.json'))).toMatchObject({ node: { node: process.versions.node } });
    expect(text('host/sockets.txt')).not.toMatch(/\d+\.\d+\.\d+\.\d+:/);
  });

  it('has the rules of the packet filter with pseudonyms, and says where there are none to be seen', async () => {
    const programs = join(directory, 'programs');
    mkdirSync(programs);
    const filter = hostCollectors().filter(({ path }) => path === 'host/nftables.txt');
    const collected = async (script: string) => {
      writeFileSync(join(programs, 'nft'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      vi.stubEnv('PATH', `${programs}:${process.env.PATH}`);
      const options = { timeoutMilliseconds: 10_000, redactor };
      const { collectors } = await collectInto({ path: directory }, filter, options);
      vi.unstubAllEnvs();
      return { status: collectors[0]?.status, text: text('host/nftables.txt') };
    };
    expect(await collected('echo "table inet t { ip saddr 192.0.2.7 drop }"')).toEqual({
      status: 'ok',
      text: expect.stringMatching(/^table inet t \{ ip saddr ‹ip:[0-9a-f]{8}› drop \}\n$/),
    });
    expect(await collected('echo "Operation not permitted" >&2; exit 1')).toEqual({
      status: 'ok',
      text: expect.stringMatching(/^not readable: .*Operation not permitted/),
    });
  });

  it.skipIf(process.geteuid?.() !== 0)('says of which processes it may not see the program', async () => {
    const source = JSON.stringify(new URL('../../src/forensics/host-state.ts', import.meta.url).href);
    const program = `
      const { hostCollectors } = await import(${source});
      const collector = hostCollectors().find(({ path }) => path === 'host/processes.jsonl');
      for await (const line of collector.gather()) process.stdout.write(line);`;
    const node = [process.execPath, '--disable-warning=ExperimentalWarning', '--input-type=module', '--eval'];
    const { stdout } = await requireChild('setpriv', ['--bounding-set', '-sys_ptrace', ...node, program]);
    const processes = stdout
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { pid: number; name: string; executable?: string | null });
    expect(processes.find(({ pid }) => pid === 1)).toHaveProperty('executable', null);
    expect(processes.find(({ name }) => name === 'kthreadd') ?? {}).not.toHaveProperty('executable');
    expect(processes.find(({ executable }) => executable === process.execPath)).toBeDefined();
  });

  it.each([
    [
      'addresses',
      'ip',
      4 << 20,
      'first',
      /^It was cut off at its limit of 4194304 bytes\. \(41943\d\d bytes kept\)$/,
    ],
    [
      'kernel.log',
      'dmesg',
      16 << 20,
      'last',
      /^It was cut off at its limit of 16777216 bytes: its first \d+ bytes are missing\. \(1677\d+ bytes kept\)$/,
    ],
  ])(
    'keeps of %s that `%s` floods with what fits into %i bytes: the %s',
    async (name, program, limit, end, told) => {
      const programs = join(directory, 'programs');
      mkdirSync(programs);
      // 21 MB and an address at either end.
      const flood =
        '#!/bin/sh\necho first 192.0.2.1\nyes "some words of a line" | head -c 21000000\necho last 192.0.2.2\n';
      writeFileSync(join(programs, program), flood, { mode: 0o755 });
      vi.stubEnv('PATH', `${programs}:${process.env.PATH}`);
      const flooded = hostCollectors().filter(({ path }) => path.startsWith(`host/${name}`));
      const { collectors, files } = await collectInto({ path: directory }, flooded, {
        timeoutMilliseconds: 20_000,
        redactor,
      });
      vi.unstubAllEnvs();
      expect(collectors).toMatchObject([{ status: 'truncated', detail: expect.stringMatching(told) }]);
      const kept = text(`host/${name.includes('.') ? name : `${name}.json`}`);
      expect(kept.length).toBeLessThanOrEqual(limit + 32);
      expect(kept.length).toBeGreaterThan(limit - 32);
      expect([kept.startsWith('first ‹ip:'), /\nlast ‹ip:[0-9a-f]{8}›\n$/.test(kept)]).toEqual([
        end === 'first',
        end === 'last',
      ]);
      expect(files.find(({ path }) => path.startsWith('host/'))?.error).toMatch(/^It was cut off/);
    },
  );

  it('keeps what `ip` told before it failed, and asks journalctl where `dmesg` may not', async () => {
    const programs = join(directory, 'programs');
    mkdirSync(programs);
    const scripts = {
      ip: 'echo "[]"; echo "no such table" >&2; exit 2',
      dmesg: 'echo "not permitted" >&2; exit 1',
      journalctl: 'echo kernel: told',
    };
    for (const [name, script] of Object.entries(scripts)) {
      writeFileSync(join(programs, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    }
    vi.stubEnv('PATH', `${programs}:${process.env.PATH}`);
    const wanted = hostCollectors().filter(({ path }) => /routes|kernel/.test(path));
    const { collectors } = await collectInto({ path: directory }, wanted, { timeoutMilliseconds: 5000 });
    vi.unstubAllEnvs();
    expect(collectors).toMatchObject([
      { status: 'failed', detail: expect.stringContaining('ended with 2: no such table') },
      { status: 'ok' },
    ]);
    expect([text('host/routes.json'), text('host/kernel.log')]).toEqual(['[]\n', 'kernel: told\n']);
  });

  it('tells sockets with readable addresses, and what cannot be read', async () => {
    const proc = join(directory, 'proc');
    mkdirSync(join(proc, 'self/net'), { recursive: true });
    const header =
      '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
    writeFileSync(
      join(proc, 'self/net/tcp'),
      `${header}   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n`,
    );
    writeFileSync(
      join(proc, 'self/net/tcp6'),
      `${header}   0: 000080FE00000000FF005450B6AD1DFE:0016 00000000000000000000000000000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 7 1\n`,
    );
    const sockets = hostCollectors({ proc }).filter(({ path }) => path === 'host/sockets.txt');
    await collectInto({ path: directory }, sockets, { timeoutMilliseconds: 1000 });
    const lines = text('host/sockets.txt').split('\n');
    expect(lines[0]).toBe('tcp 127.0.0.1:8080 0.0.0.0:0 listening uid=1000 inode=4242');
    expect(lines[1]).toBe(
      'tcp6 [fe80:0:0:0:5054:ff:fe1d:adb6]:22 [0:0:0:0:0:0:0:0]:0 established uid=0 inode=7',
    );
    expect(lines[2]).toMatch(/^udp not readable/);
  });
});

describe('canaries', () => {
  const node = new Redactor({ rules, hosts: ['alpha.example', 'password', 'from'], key: caseKey });
  const members: readonly (readonly [string, Partial<Collector>, string])[] = [
    ['journal/entries.export', { form: 'journal' }, 'MESSAGE=quiet\n\n'],
    ...hostCollectors().map(({ path }) => [path, {}, 'quiet\n'] as const),
    ['links/links.json', {}, '[]\n'],
    ['empty.txt', {}, ''],
  ];
  const collect = (by: Redactor, failing = false) =>
    collectInto(
      { path: directory },
      members.map(([path, more, given]) =>
        collector(path, async () => (failing ? Promise.reject(new Error('gone')) : given), {
          redact: true,
          ...more,
        }),
      ),
      { timeoutMilliseconds: 1000, redactor: by },
    );

  it('leave nothing in the members, and their number in the manifest', async () => {
    const { files, collectors } = await collect(node);
    for (const [path, , given] of members) expect(text(path)).toBe(given);
    expect(files.map(({ path }) => path)).toEqual(members.map(([path]) => path).sort());
    for (const { canaries, redactions } of files) {
      expect(canaries).toBe(rules.length + 1 + 3 + 2);
      expect(redactions).toEqual([]);
    }
    expect(collectors.filter(({ status }) => status !== 'ok')).toMatchObject([
      { name: 'empty.txt', status: 'empty' },
    ]);
  });

  it.each(['private-key-pem', 'wireguard-key', 'password', 'ipv6-address', 'mac-address'])(
    'find in every member that the rule %s is broken, and name neither secret nor case key',
    async (name) => {
      const broken = rules.map((rule) => (rule.name === name ? { ...rule, pattern: 'never matches' } : rule));
      const refused = collect(new Redactor({ rules: broken, key: caseKey }));
      await expect(refused).rejects.toMatchObject({
        code: 'canary-survived',
        kept: expect.stringContaining(directory),
      });
      const { message } = (await refused.catch((error: unknown) => error)) as Error;
      for (const [path] of members) expect(message).toContain(`${name} in ${path}`);
      expect(message).not.toMatch(/[A-Za-z0-9+/]{40}/);
    },
  );

  it('find a broken rule also where a collector fails', async () => {
    const broken = rules.filter(({ name }) => name !== 'wireguard-key');
    await expect(collect(new Redactor({ rules: broken, key: caseKey }), true)).rejects.toThrow(
      /link key in journal\/entries\.export; preshared key in journal/,
    );
  });

  it('find a rule that replaces only half of what it should', async () => {
    const half = rules.map((rule) =>
      rule.name === 'aws-access-key' ? { ...rule, pattern: '\\bAKIA(?<secret>[A-Z0-9]{8})' } : rule,
    );
    await expect(collect(new Redactor({ rules: half, key: caseKey }))).rejects.toThrow(
      /aws-access-key in empty\.txt/,
    );
  });

  it('do not stop a bundle for a rule that is quicker and of another kind, nor one that is there no more', async () => {
    const own = {
      name: 'own',
      kind: 'own',
      pattern: 'PrivateKey = (?<secret>\\S+)',
      sample: 'PrivateKey = <<{hex:32}>>',
    };
    const fewer = rules.filter(({ name }) => name !== 'ipv4-address');
    await expect(collect(new Redactor({ rules: [own, ...fewer], key: caseKey }))).resolves.toBeDefined();
  });
});
