// The archive of a bundle: the same bytes for the same inputs, and a reader that takes nothing else.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { Header } from 'tar';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BundleOnHand } from '../../src/appliance/bundle-on-hand.ts';
import {
  archiveName,
  bundleFormat,
  decodeManifest,
  encodeManifest,
  type Manifest,
  sha256,
  sigstoreName,
} from '../../src/forensics/format.ts';
import { packBundle } from '../../src/forensics/pack.ts';
import { type ArchiveLimits, readArchive } from '../../src/forensics/unpack.ts';
import { Failure } from '../../src/host/failure.ts';

const limits: ArchiveLimits = {
  archiveBytes: 1 << 20,
  contentBytes: 8 << 20,
  members: 20,
  ratio: 100,
  keptBytes: 1 << 16,
};
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-archive-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function stage(name: string, content: Record<string, string>): { staging: string; manifest: Manifest } {
  const staging = join(directory, name);
  for (const [path, text] of Object.entries(content)) {
    mkdirSync(dirname(join(staging, path)), { recursive: true });
    writeFileSync(join(staging, path), text);
  }
  mkdirSync(staging, { recursive: true });
  const files = Object.entries(content).map(([path, text]) => ({
    path,
    size: Buffer.byteLength(text),
    sha256: sha256(text),
    source: 'a test',
    redactions: [],
  }));
  const assurance = { tpm: 'simulator' as const, sigstore: 'on' as const, standIns: [], notes: [] };
  const created = '2026-11-20T16:30:00Z';
  const about = { node: 'alpha', sequence: 1, created, reason: 'a test', assurance };
  return { staging, manifest: { format: bundleFormat, ...about, files, collectors: [], redaction: null } };
}
const read = (archive: Uint8Array, changes: Partial<ArchiveLimits> = {}) =>
  readArchive(archive, { ...limits, ...changes }, () => true);
const refusal = async (archive: Uint8Array, changes: Partial<ArchiveLimits> = {}): Promise<string> => {
  const error: unknown = await read(archive, changes).then(
    () => 'accepted',
    (thrown) => thrown,
  );
  if (!(error instanceof Failure)) return String(error);
  expect(error.code).toBe('archive-invalid');
  return error.message;
};

interface Member {
  readonly path: string;
  readonly content?: string;
  readonly type?: 'File' | 'SymbolicLink' | 'Link' | 'CharacterDevice' | 'BlockDevice' | 'FIFO' | 'Directory';
  readonly linkpath?: string;
  readonly mode?: number;
}
/** A tar as someone else could make it. */
function craft(members: readonly Member[], change: (tar: Buffer) => Buffer = (tar) => tar): Buffer {
  const blocks = members.flatMap(({ path, content = '', type = 'File', linkpath, mode = 0o644 }) => {
    const header = new Header({
      path,
      mode,
      size: Buffer.byteLength(content),
      type,
      mtime: new Date(0),
      ...(linkpath === undefined ? {} : { linkpath }),
    });
    const block = Buffer.alloc(512);
    header.encode(block, 0);
    const padded = Buffer.alloc(Math.ceil(Buffer.byteLength(content) / 512) * 512);
    padded.write(content);
    return [block, padded];
  });
  return gzipSync(change(Buffer.concat([...blocks, Buffer.alloc(1024)])), { level: 6 });
}

describe('packing', () => {
  const content = {
    'host/b.txt': 'bee\n',
    'custody/custody.jsonl': '{}\n',
    'host/a.txt': '',
    'z.bin': 'x'.repeat(3000),
  };

  it('gives the same bytes for the same inputs, whatever the times, modes and order', async () => {
    const first = stage('first', content);
    const second = stage('second', Object.fromEntries(Object.entries(content).reverse()));
    chmodSync(join(second.staging, 'z.bin'), 0o4755);
    utimesSync(join(second.staging, 'z.bin'), 1, 2);
    const manifest = first.manifest;
    const a = await packBundle(first.staging, manifest, join(directory, 'a.tar.gz'));
    const b = await packBundle(second.staging, manifest, join(directory, 'b.tar.gz'));
    expect(a).toEqual(b);
    const bytes = readFileSync(join(directory, 'a.tar.gz'));
    expect(bytes.equals(readFileSync(join(directory, 'b.tar.gz')))).toBe(true);
    expect(a).toMatchObject({ sha256: sha256(bytes), size: bytes.length });
  });

  it('puts the manifest first and the files in order, and leaves no other file behind', async () => {
    const { staging, manifest } = stage('one', content);
    writeFileSync(join(staging, 'not-listed'), 'stays here');
    const packed = await packBundle(staging, manifest, join(directory, 'a.tar.gz'));
    const { members } = await read(readFileSync(join(directory, 'a.tar.gz')));
    expect(members.map(({ path }) => path)).toEqual([
      'manifest.json',
      'custody/custody.jsonl',
      'host/a.txt',
      'host/b.txt',
      'z.bin',
    ]);
    expect(members[0]?.sha256).toBe(packed.manifestSha256);
    expect(decodeManifest(members[0]?.bytes ?? new Uint8Array())).toEqual(manifest);
    expect(members[3]).toMatchObject({ size: 4, sha256: sha256('bee\n') });
    expect(existsSync(join(directory, `a.tar.gz.${process.pid}.new`))).toBe(false);
  });

  it('fails with what is kept when a listed file is gone, and leaves no archive', async () => {
    const { staging, manifest } = stage('one', content);
    rmSync(join(staging, 'z.bin'));
    const out = join(directory, 'a.tar.gz');
    await expect(packBundle(staging, manifest, out)).rejects.toMatchObject({
      code: 'pack-failed',
      kept: expect.stringContaining(staging),
    });
    expect(existsSync(out)).toBe(false);
    expect(existsSync(`${out}.${process.pid}.new`)).toBe(false);
  });

  it('reads back whatever was packed', async () => {
    const path = fc.stringMatching(/^[a-z]{1,8}(\/[a-z]{1,8}){0,3}\.[a-z]{1,3}$/);
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.dictionary(path, fc.string({ maxLength: 2000 }), { maxKeys: 8 }), async (files) => {
        run += 1;
        const { staging, manifest } = stage(`run-${run}`, files);
        const out = join(directory, `run-${run}.tar.gz`);
        await packBundle(staging, manifest, out);
        const { members } = await read(readFileSync(out));
        const found = Object.fromEntries(
          members.slice(1).map((each) => [each.path, Buffer.from(each.bytes ?? []).toString()]),
        );
        expect(found).toEqual({ ...files });
      }),
      { numRuns: 25 },
    );
  });
});

describe('reading', () => {
  it('takes a plain archive, made by hand too', async () => {
    const { members } = await read(craft([{ path: 'a/b.txt', content: 'hello' }]));
    expect(members).toEqual([
      { path: 'a/b.txt', size: 5, sha256: sha256('hello'), bytes: Buffer.from('hello') },
    ]);
  });

  it.each([
    '/etc/passwd',
    '../up',
    'a/../b',
    'a//b',
    './a',
    'a/.',
    '.hidden',
    'a\\b',
    'C:b',
    'ä.txt',
    '-rf',
    'a b',
    'dir/',
  ])('refuses the name %j', async (path) => {
    expect(await refusal(craft([{ path, content: 'x' }]))).toMatch(
      /not a plain relative name|not a regular file/,
    );
  });

  it.each(['SymbolicLink', 'Link', 'CharacterDevice', 'BlockDevice', 'FIFO', 'Directory'] as const)(
    'refuses a %s',
    async (type) => {
      expect(await refusal(craft([{ path: 'a', type, linkpath: 'b' }]))).toMatch(/not a regular file/);
    },
  );

  it('refuses names that are there twice, or differ in case only, or are file and folder', async () => {
    expect(await refusal(craft([{ path: 'a' }, { path: 'a' }]))).toMatch(/twice/);
    expect(await refusal(craft([{ path: 'a' }, { path: 'A' }]))).toMatch(/twice/);
    expect(await refusal(craft([{ path: 'a' }, { path: 'a/b' }]))).toMatch(/file and a folder/);
    expect(await refusal(craft([{ path: 'a/b' }, { path: 'a' }]))).toMatch(/file and a folder/);
  });

  it('refuses other modes, link targets, bad checksums and hidden data', async () => {
    const one = [{ path: 'a', content: 'x' }];
    expect(await refusal(craft([{ path: 'a', mode: 0o4755 }]))).toMatch(/mode/);
    expect(await refusal(craft([{ path: 'a', linkpath: 'b' }]))).toMatch(/leaves empty/);
    const set = (at: number, value: number) => (tar: Buffer) => {
      tar[at] = value;
      return tar;
    };
    expect(await refusal(craft(one, set(0, 0x62)))).toMatch(/checksum/);
    expect(await refusal(craft(one, set(512 + 1, 7)))).toMatch(/padding/);
    const binarySize = (tar: Buffer) => {
      tar[124] = 0x80;
      tar.write('        ', 148);
      const sum = tar.subarray(0, 512).reduce((total, byte) => total + byte, 0);
      tar.write(`${sum.toString(8).padStart(6, '0')} `, 148);
      return tar;
    };
    expect(await refusal(craft(one, binarySize))).toMatch(/number that is none/);
    expect(await refusal(craft(one, (tar) => tar.subarray(0, -512)))).toMatch(/cut off/);
    expect(await refusal(craft(one, (tar) => tar.subarray(0, 512)))).toMatch(/cut off/);
    expect(await refusal(craft(one, (tar) => Buffer.concat([tar, Buffer.alloc(512)])))).toMatch(
      /follows its end/,
    );
    expect(await refusal(craft(one, (tar) => Buffer.concat([tar.subarray(0, -512), tar])))).toMatch(
      /follows its end/,
    );
  });

  it('refuses a gzip with a name, a time, a second member or something behind it', async () => {
    const archive = craft([{ path: 'a' }]);
    const named = Buffer.from(archive);
    named[3] = 8;
    expect(await refusal(named)).toMatch(/gzip header/);
    const timed = Buffer.from(archive);
    timed[4] = 1;
    expect(await refusal(timed)).toMatch(/gzip header/);
    expect(await refusal(Buffer.concat([archive, archive]))).toMatch(/follows its end/);
    expect(await refusal(Buffer.concat([archive, Buffer.alloc(9)]))).toMatch(/follows its end/);
    const tar = gunzipSync(archive);
    const split = [tar.subarray(0, 600), tar.subarray(600)].map((part) => gzipSync(part, { level: 6 }));
    expect(await refusal(Buffer.concat(split))).toMatch(/follows its end/);
    const commented = Buffer.from('1f8b0810000000000003534d5547474c45440003000000000000000000', 'hex');
    expect(await refusal(Buffer.concat([archive, commented]))).toMatch(/follows its end/);
    expect(await refusal(Buffer.concat([gzipSync('', { level: 6 }), archive]))).toMatch(/follows its end/);
    expect(await refusal(Buffer.concat([archive, Buffer.alloc(1 << 19, 7)]))).toMatch(/follows its end/);
    expect(await refusal(archive.subarray(0, -1))).toMatch(/not intact gzip/);
    expect(await refusal(archive.subarray(0, -8))).toMatch(/not intact gzip/);
    for (const at of [8, 4]) {
      const wrong = Buffer.from(archive);
      wrong[wrong.length - at] = (wrong[wrong.length - at] ?? 0) ^ 1;
      expect(await refusal(wrong)).toMatch(/checksum or size/);
    }
    expect(await refusal(archive.subarray(0, 5))).toMatch(/cut off/);
    expect(await refusal(archive.subarray(0, 50))).toMatch(/not intact gzip/);
  });

  it('reads it in whatever pieces it comes', async () => {
    const archive = craft([{ path: 'a', content: 'hello' }]);
    const whole = await readArchive(archive, limits, () => true);
    for (const size of [1, 7, 8, 9, 11]) {
      const pieces = Array.from({ length: Math.ceil(archive.length / size) }, (_, at) =>
        archive.subarray(at * size, (at + 1) * size),
      );
      const source = (async function* () {
        yield* pieces;
      })();
      expect(await readArchive(source, limits, () => true)).toEqual(whole);
    }
  });

  it('stops at its limits before it has used the memory', async () => {
    const bomb = craft([{ path: 'zeros', content: '\0'.repeat(32 << 20) }]);
    expect(bomb.length).toBeLessThan(64 << 10);
    expect(await refusal(bomb, { contentBytes: 1 << 30 })).toMatch(
      /too large to look at|expands more than 100 times/,
    );
    expect(await refusal(bomb)).toMatch(
      /content is larger than .* bytes, the limit `content_bytes` of the policy/,
    );
    const ratio = readArchive(bomb, { ...limits, contentBytes: 1 << 30 }, () => false);
    await expect(ratio).rejects.toThrow(/expands more than 100 times, the limit `ratio`/);
    const many = craft(Array.from({ length: 21 }, (_, at) => ({ path: `file-${at}` })));
    expect(await refusal(many)).toMatch(/over 20 members, the limit `members`/);
    expect(await refusal(many, { archiveBytes: 100 })).toMatch(
      /larger than 100 bytes, the limit `archive_bytes`/,
    );
  });

  it('meets any bytes with a verdict, never with another exception', async () => {
    const good = gunzipSync(
      craft([
        { path: 'a/b.txt', content: 'hello' },
        { path: 'c', content: 'x'.repeat(700) },
      ]),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 0, max: good.length - 1 }), fc.integer({ min: 0, max: 255 })), {
          maxLength: 4,
        }),
        async (changes) => {
          const tar = Buffer.from(good);
          for (const [at, value] of changes) tar[at] = value;
          expect(await refusal(gzipSync(tar))).toMatch(/^The archive is not valid|^accepted/);
        },
      ),
      { numRuns: 300 },
    );
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), async (bytes) => {
        expect(await refusal(bytes)).toMatch(/^The archive is not valid/);
        expect(await refusal(gzipSync(bytes))).toMatch(/^The archive is not valid/);
      }),
      { numRuns: 200 },
    );
  });
});

describe('the format', () => {
  it('names the two files after node, sequence and time', () => {
    const name = archiveName('alpha', 7, '2026-11-20T16:30:00.123Z');
    expect(name).toBe('alpha-000007-20261120T163000Z.tar.gz');
    expect(sigstoreName(name)).toBe('alpha-000007-20261120T163000Z.tar.gz.sigstore.json');
    expect(() => archiveName('../x', 7, '2026-11-20T16:30:00Z')).toThrow(/cannot be named/);
    expect(() => archiveName('alpha', 7, 'yesterday')).toThrow(/cannot be named/);
  });

  it('takes a manifest in its canonical form only', () => {
    const { manifest } = stage('m', { 'a.txt': 'a' });
    const encoded = Buffer.from(encodeManifest(manifest)).toString();
    expect(decodeManifest(Buffer.from(encoded))).toEqual(manifest);
    for (const wrong of [
      ` ${encoded}`,
      encoded.trim(),
      encoded.replace('/1"', '/2"'),
      '{}\n',
      'x',
      `\ufeff${encoded}`,
    ]) {
      expect(() => decodeManifest(Buffer.from(wrong))).toThrow(
        expect.objectContaining({ code: 'manifest-invalid' }) as Error,
      );
    }
    expect(() => encodeManifest({ ...manifest, node: '' })).toThrow(/manifest/);
  });

  it('names a format that it does not know, and leaves nothing of such a bundle in a directory', async () => {
    const { manifest } = stage('m', { 'a.txt': 'a' });
    const later = Buffer.from(encodeManifest(manifest)).toString().replace('/1"', '/2"');
    const archive = join(directory, 'later.tar.gz');
    const bytes = craft([
      { path: 'manifest.json', content: later },
      { path: 'a.txt', content: 'a' },
    ]);
    writeFileSync(archive, bytes);
    const into = join(directory, 'opened');
    const opened = BundleOnHand.open({ archive, directory: into, allowBypassed: true });
    await expect(opened).rejects.toMatchObject({
      code: 'manifest-invalid',
      status: 3,
      message: expect.stringContaining(`"esoteric-appliance-bundle/2", and only ${bundleFormat} is known`),
    });
    expect(readdirSync(into)).toEqual([]);
  });
});
