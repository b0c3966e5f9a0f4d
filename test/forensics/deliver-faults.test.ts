// Delivery in parts against a store and a node that fail in every way: in the end there is exactly one good copy.
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Delivery, deliver, parseUploadUrl } from '../../src/forensics/deliver.ts';
import { type Fault, type S3Server, startS3 } from '../lab/s3.ts';

const credentials = { accessKeyId: 'COURIER', secretAccessKey: 'courier-secret' };
const names = ['alpha-7-20261120T100000Z.tar.gz', 'alpha-7-20261120T100000Z.tar.gz.sigstore.json'];
const partBytes = 5 << 20;
const archive = randomBytes(2 * partBytes + 12_345);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const long = process.env.ESOTERIC_LONG !== undefined;
let s3: S3Server;
let directory: string;
let stateDirectory: string;
let files: string[];
let url: string;
let skew = 0;

beforeAll(async () => {
  s3 = await startS3({
    credentials,
    buckets: ['evidence', 'plain'],
    withoutLock: ['plain'],
    now: () => new Date(Date.now() + skew),
  });
});
afterAll(() => s3.stop());
beforeEach((context) => {
  directory = mkdtempSync(join(tmpdir(), 'ea-deliver-faults-'));
  stateDirectory = join(directory, 'state');
  mkdirSync(stateDirectory);
  files = names.map((name) => join(directory, name));
  writeFileSync(files[0] ?? '', archive);
  writeFileSync(files[1] ?? '', '{}');
  url = `s3://evidence/${context.task.id}?endpoint=${s3.endpoint}`;
});
afterEach(() => {
  s3.faults.failNext(0, 500);
  s3.onRequest = undefined;
  skew = 0;
  rmSync(directory, { recursive: true });
});

const run = (more: Partial<Delivery> = {}, to = url) =>
  deliver({
    files,
    target: parseUploadUrl(to),
    credentials: async () => credentials,
    signal: new AbortController().signal,
    sha256: new Map([[files[0] ?? '', sha256(archive)]]),
    stateDirectory,
    partBytes,
    ...more,
  });
function damagedAt(...positions: number[]): Buffer {
  const damaged = Buffer.from(archive);
  for (const position of positions) damaged[position] = (damaged[position] ?? 0) ^ 1;
  return damaged;
}

/** As the courier does, without its waits. @returns how many attempts it took. */
async function insist(attempts = 1): Promise<number> {
  try {
    await run();
    return attempts;
  } catch (error) {
    if (attempts >= 10) throw error;
    return await insist(attempts + 1);
  }
}
const copies = () =>
  [...s3.objects('evidence')].filter(([key]) => key.startsWith(new URL(url).pathname.slice(1)));
const requestsSince = (before: number, what: RegExp) =>
  s3.requests.slice(before).filter((line) => what.test(line));

function expectOneGoodCopy(): void {
  expect(copies().map(([key]) => key.split('/').at(-1))).toEqual(names);
  expect(copies()[0]?.[1].bytes.equals(archive)).toBe(true);
  expect(readdirSync(stateDirectory)).toEqual([]);
}

describe('an upload in parts', () => {
  it('is whole, with a checksum of all of it, and leaves no state', async () => {
    const before = s3.requests.length;
    await run();
    expectOneGoodCopy();
    expect(copies()[0]?.[1]).toMatchObject({
      checksumType: 'FULL_OBJECT',
      checksums: { crc32: expect.any(String) },
    });
    expect(requestsSince(before, /partNumber=/)).toHaveLength(3);
  });

  it('sends no part twice when it goes on after a break', async () => {
    const before = s3.requests.length;
    const seen: number[] = [];
    const abort = new AbortController();
    await expect(
      run({
        signal: abort.signal,
        onProgress: ({ phase, bytes }) => {
          if (phase === 'upload') seen.push(bytes);
          if (seen.length === 3) abort.abort(new Error('killed'));
        },
      }),
    ).rejects.toThrow('killed');
    expect(copies()).toEqual([]);
    expect(readdirSync(stateDirectory)).toHaveLength(1);
    await run();
    expectOneGoodCopy();
    expect(requestsSince(before, /partNumber=/)).toHaveLength(3);
    expect(requestsSince(before, /^POST .*uploads/)).toHaveLength(1);
  });

  it('starts anew where another content, a damaged state or a forgotten upload is found', async () => {
    s3.faults.failNext(100, 403, 'PUT');
    await expect(run()).rejects.toMatchObject({ code: 'upload-denied' });
    s3.faults.failNext(0, 403);
    const [state = ''] = readdirSync(stateDirectory);
    for (const text of ['not JSON', '{}']) {
      writeFileSync(join(stateDirectory, state), text);
      s3.faults.failNext(100, 403, 'PUT');
      await expect(run()).rejects.toMatchObject({ code: 'upload-denied' });
      s3.faults.failNext(0, 403);
    }
    const path = join(stateDirectory, state);
    writeFileSync(path, readFileSync(path, 'utf8').replace(/("uploadId":")[^"]*/, '$1forgotten'));
    await run();
    expectOneGoodCopy();
  });

  it('leaves no parts where it is not to go any more', async () => {
    s3.faults.failNext(100, 403, 'PUT');
    await expect(run()).rejects.toMatchObject({ code: 'upload-denied' });
    s3.faults.failNext(0, 403);
    const before = s3.requests.length;
    url = url.replace('?', '-elsewhere?');
    await run();
    expectOneGoodCopy();
    expect(requestsSince(before, /^DELETE .*204$/)).toEqual([
      expect.not.stringContaining('-elsewhere') as string,
    ]);
  });

  it('never replaces what lies there', async () => {
    await run();
    const other = randomBytes(partBytes + 1);
    writeFileSync(files[0] ?? '', other);
    await expect(run({ sha256: new Map([[files[0] ?? '', sha256(other)]]) })).rejects.toMatchObject({
      code: 'upload-conflict',
    });
    expectOneGoodCopy();
  });

  it('is delivered without its SHA-256 being known', async () => {
    await run({ sha256: new Map() });
    expectOneGoodCopy();
  });

  it('of a damaged file ends in nothing, is not begun again, and goes on when the file is whole', async () => {
    writeFileSync(files[0] ?? '', damagedAt(partBytes + 7));
    const before = s3.requests.length;
    await expect(run()).rejects.toMatchObject({
      code: 'upload-source-damaged',
      message: expect.stringContaining(sha256(archive)) as string,
    });
    const sent = s3.requests.length;
    await expect(run()).rejects.toMatchObject({ code: 'upload-source-damaged' });
    expect(s3.requests.length).toBe(sent);
    expect(copies()).toEqual([]);
    writeFileSync(files[0] ?? '', archive);
    await run();
    expectOneGoodCopy();
    expect(requestsSince(before, /^PUT .*partNumber=[13]/)).toHaveLength(2);
    expect(requestsSince(before, /^PUT .*partNumber=2/)).toHaveLength(2);
  });

  it('is not put together from two contents: what was sent of another is sent again', async () => {
    const abort = new AbortController();
    writeFileSync(files[0] ?? '', damagedAt(0, partBytes, 2 * partBytes));
    const interrupted = run({
      signal: abort.signal,
      onProgress: ({ phase }) => {
        if (phase === 'upload') abort.abort(new Error('killed'));
      },
    });
    await expect(interrupted).rejects.toThrow('killed');
    const [name = ''] = readdirSync(stateDirectory);
    const { parts } = JSON.parse(readFileSync(join(stateDirectory, name), 'utf8')) as {
      parts: { PartNumber: number }[];
    };
    const [sent] = parts;
    expect(sent).toBeDefined();
    const before = s3.requests.length;
    writeFileSync(files[0] ?? '', archive);
    await run();
    expectOneGoodCopy();
    const again = requestsSince(before, new RegExp(`^PUT .*partNumber=${sent?.PartNumber}(?!\\d)`));
    expect(again).toHaveLength(1);
    expect(requestsSince(before, /^POST .*uploads/)).toHaveLength(0);
  });

  it('does not need its state to be kept: a full disk for it fails nothing', async () => {
    rmSync(stateDirectory, { recursive: true });
    await run();
    mkdirSync(stateDirectory);
    expectOneGoodCopy();
  });
});

describe('in the end there is one good copy', () => {
  it.each<[Fault, 'PUT' | 'POST' | 'GET' | 'HEAD', number]>([
    [500, 'PUT', 8],
    [500, 'POST', 8],
    [500, 'GET', 4],
    [503, 'HEAD', 4],
    [507, 'PUT', 2],
    [507, 'POST', 2],
    ['slow', 'PUT', 8],
    ['slow', 'POST', 4],
    ['reset', 'PUT', 8],
    ['break', 'PUT', 8],
    ['break', 'POST', 4],
    ['expired', 'PUT', 2],
    ['expired', 'POST', 1],
    ['etag', 'PUT', 1],
    ['corrupt', 'GET', 2],
    ['rot', 'GET', 2],
  ])('after %s of %s, %i times', async (fault, method, count) => {
    s3.faults.failNext(count, fault, method);
    await insist();
    expectOneGoodCopy();
  });

  it.each([-86_400_000, 86_400_000])('with a clock that is %i ms off', async (off) => {
    skew = off;
    await insist();
    expectOneGoodCopy();
  });

  it('in the region that the store names', async () => {
    url += '&region=eu-west-1';
    await run();
    expectOneGoodCopy();
  });

  it('after credentials that had expired were renewed', async () => {
    s3.faults.failNext(100, 'expired');
    await expect(run()).rejects.toMatchObject({
      code: 'upload-denied',
      message: expect.stringContaining('ExpiredToken'),
    });
    s3.faults.failNext(0, 'expired');
    await run();
    expectOneGoodCopy();
  });

  // HEAD, POST, three parts, POST, GET; PUT and GET of the signature.
  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9])('after kill -9 at request %i', async (stage) => {
    const child = spawn(
      process.execPath,
      [
        join(import.meta.dirname, 'deliver-child.ts'),
        url,
        stateDirectory,
        String(partBytes),
        sha256(archive),
        ...files,
      ],
      { stdio: 'ignore' },
    );
    const exited = once(child, 'exit');
    let seen = 0;
    s3.onRequest = () => {
      seen += 1;
      if (seen === stage) child.kill('SIGKILL');
    };
    expect(await exited).toEqual([null, 'SIGKILL']);
    s3.onRequest = undefined;
    await insist();
    expectOneGoodCopy();
  });
});

/** A store behind a thin line: it takes so many bytes a second, and gives back what the files hold. */
async function slowStore(bytesPerSecond: number): Promise<Server> {
  const server = createServer(async (request, response) => {
    let free = 0;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      free = Math.max(free, Date.now()) + (chunk.length / bytesPerSecond) * 1000;
      await delay(free - Date.now());
    }
    const file = files.find((path) => request.url?.split('?')[0]?.endsWith(`/${basename(path)}`)) ?? '';
    response.end(request.method === 'GET' ? readFileSync(file) : '');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

describe('time', () => {
  it.skipIf(!long)(
    `is what a thin line gets: a request may take longer than silence is borne${long ? '' : ' (skipped: npm run test:chaos)'}`,
    { timeout: 60_000 },
    async () => {
      // More than kernels keep in buffers, through which it passes in silence.
      writeFileSync(files[0] ?? '', randomBytes(48 << 20));
      const store = await slowStore(16 << 20);
      try {
        const { port } = store.address() as AddressInfo;
        const through = url.replace(/http:.*/, `http://127.0.0.1:${port}`);
        const begun = Date.now();
        const [delivered] = await run(
          { idleMilliseconds: 1500, partBytes: 64 << 20, sha256: new Map() },
          through,
        );
        expect(delivered?.size).toBe(48 << 20);
        expect(Date.now() - begun).toBeGreaterThan(2900);
      } finally {
        store.close();
      }
    },
  );

  it('is not what a store gets that says nothing', async () => {
    s3.faults.failNext(100, 'hang');
    await expect(run({ idleMilliseconds: 300 })).rejects.toMatchObject({ code: 'upload-unreachable' });
  });
});

it('a refusal without a reason is told in plain words', async () => {
  s3.faults.failNext(100, 503, 'HEAD');
  await expect(run()).rejects.toMatchObject({
    code: 'upload-refused',
    message: expect.stringMatching(/refused the upload with 503, and without a reason\.$/),
  });
});

describe('what answers in the place of the store', () => {
  const page = '<html><body>Please sign in to this network.</body></html>';
  it.each<[string, number, Record<string, string>]>([
    ['a page to everything', 200, { 'content-type': 'text/html' }],
    ['a page that is kept in caches', 200, { 'content-type': 'text/html; charset=utf-8', etag: '"5f2a"' }],
    ['the way to a page', 302, { location: 'http://192.0.2.1/login' }],
    ['that one must sign in (RFC 6585)', 511, { 'content-type': 'text/html' }],
  ])('is named, and not taken for it: %s', async (_what, status, headers) => {
    const portal = createServer((request, response) => {
      request.resume();
      response.writeHead(status, headers).end(page);
    }).listen(0, '127.0.0.1');
    await once(portal, 'listening');
    try {
      const through = `s3://evidence/x?endpoint=http://127.0.0.1:${(portal.address() as AddressInfo).port}`;
      const inTheWay = { code: 'upload-intercepted', remedy: expect.stringContaining('Sign in') };
      await expect(run({}, through)).rejects.toMatchObject(inTheWay);
      await expect(run({ partBytes: 64 << 20 }, through)).rejects.toMatchObject(inTheWay);
    } finally {
      portal.closeAllConnections();
      portal.close();
    }
  });
});

describe('what protects a copy', () => {
  const retained = 30 * 86_400_000;
  it.each(['governance', 'compliance'])('is set and read back: %s, of both files', async (mode) => {
    await run({}, `${url}&object-lock=${mode}&retain=30d&sse=AES256`);
    expectOneGoodCopy();
    for (const [, { lock, encryption }] of copies()) {
      expect(lock?.retention?.mode).toBe(mode.toUpperCase());
      expect(Math.abs((lock?.retention?.until.getTime() ?? 0) - Date.now() - retained)).toBeLessThan(
        3_600_000,
      );
      expect(encryption).toBe('AES256');
    }
    await run({}, `${url}&object-lock=${mode}&retain=30d&sse=AES256`);
  });

  it.each(['object-lock=compliance&retain=30d', 'sse=aws:kms'])(
    'and is missing, where %s was asked for, is told',
    async (asked) => {
      await run();
      await expect(run({}, `${url}&${asked}`)).rejects.toMatchObject({ code: 'upload-unprotected' });
    },
  );

  it.each([partBytes, 64 << 20])(
    'and cannot be had in the bucket is told: nothing is written',
    async (size) => {
      const plain = `${url.replace('evidence', 'plain')}&object-lock=compliance&retain=30d`;
      await expect(run({ partBytes: size }, plain)).rejects.toMatchObject({
        code: 'upload-unprotected',
        message: expect.stringContaining('nothing was written'),
        remedy: expect.stringContaining('made with Object Lock'),
      });
      expect(s3.objects('plain').size).toBe(0);
    },
  );

  it('and ends too early is told', async () => {
    await run({}, `${url}&object-lock=governance&retain=2d`);
    await expect(run({}, `${url}&object-lock=governance&retain=30d`)).rejects.toMatchObject({
      code: 'upload-unprotected',
    });
    await expect(run({}, `${url}&object-lock=compliance&retain=2d`)).rejects.toMatchObject({
      code: 'upload-unprotected',
    });
  });
});
