// Delivery to the lab's S3 server with the real SDK, to a directory, and through everything that can go wrong.
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type Delivery,
  type DeliveryProgress,
  deliver,
  parseUploadUrl,
} from '../../src/forensics/deliver.ts';
import { Failure } from '../../src/host/failure.ts';
import { type S3Server, startS3 } from '../lab/s3.ts';

const credentials = { accessKeyId: 'COURIER', secretAccessKey: 'courier-secret' };
const names = ['alpha-7-20261120T100000Z.tar.gz', 'alpha-7-20261120T100000Z.tar.gz.sigstore.json'];
const archive = randomBytes(3_000_000);
let directory: string;
let files: string[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-deliver-'));
  files = names.map((name) => join(directory, name));
  writeFileSync(files[0] ?? '', archive);
  writeFileSync(files[1] ?? '', '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}');
});
afterEach(() => rmSync(directory, { recursive: true }));

const run = (url: string, more: Partial<Delivery> = {}) =>
  deliver({
    files,
    target: parseUploadUrl(url),
    credentials: async () => credentials,
    signal: new AbortController().signal,
    ...more,
  });

describe('upload URLs', () => {
  it('name a bucket, a prefix, an endpoint and a region', () => {
    expect(parseUploadUrl('s3://bucket/a/b%20c/?endpoint=http://127.0.0.1:9000/&region=eu-west-1')).toEqual({
      kind: 's3',
      bucket: 'bucket',
      prefix: 'a/b c',
      endpoint: 'http://127.0.0.1:9000',
      region: 'eu-west-1',
    });
    expect(parseUploadUrl('s3://bucket')).toEqual({
      kind: 's3',
      bucket: 'bucket',
      prefix: '',
      region: 'us-east-1',
    });
  });
  it('or a directory', () => {
    expect(parseUploadUrl('file:///var/lib/a%20b')).toEqual({ kind: 'file', directory: '/var/lib/a b' });
  });
  it.each([
    ['nothing', 'not a URL'],
    ['https://bucket/x', 'https:// is not supported'],
    ['s3:///prefix', 'cannot be a bucket'],
    ['s3://Bucket_1/x', 'cannot be a bucket'],
    ['s3://bucket/x?endpiont=http://h', '"endpiont" is not a known parameter'],
    ['s3://bucket/x?region=a&region=b', 'more than once'],
    ['s3://bucket/x?region=EU%20west', 'cannot be a region'],
    ['s3://bucket/x?endpoint=ftp://h', 'not an http or https URL'],
    ['s3://bucket/x?endpoint=http://h%3Fa', 'has parameters'],
    ['s3://bucket/%ff', 'URI malformed'],
    ['s3://bucket/x?sse=rot13', 'none of AES256'],
    ['s3://bucket/x?object-lock=compliance', 'belong together'],
    ['s3://bucket/x?retain=90d', 'belong together'],
    ['s3://bucket/x?object-lock=maybe&retain=90d', 'neither governance'],
    ['s3://bucket/x?object-lock=compliance&retain=0d', 'no time to retain'],
    ['s3://bucket/x?object-lock=compliance&retain=101y', 'no time to retain'],
    ['s3://bucket/x#y', 'fragment'],
    ['file://host/x', 'three slashes'],
    ['file:///x?y=1', 'no parameters'],
    ['file:///a%2Fb', 'must not include encoded /'],
  ])('%s is refused: %s', (url, why) => {
    expect(() => parseUploadUrl(url)).toThrow(
      expect.objectContaining({
        code: 'upload-url-invalid',
        status: 2,
        message: expect.stringContaining(why),
      }),
    );
  });
  it.each(['s3://KEY:hunter2@bucket/x', 's3://bucket/x?endpoint=http://KEY:hunter2@host'])(
    'never repeat the password in %s',
    (url) => {
      expect(() => parseUploadUrl(url)).toThrow(/credentials/);
      expect(() => parseUploadUrl(url)).not.toThrow(/hunter2/);
    },
  );
  it('are parsed or refused whatever the text', () => {
    const text = fc.oneof(
      fc.string(),
      fc.webUrl(),
      fc.string().map((tail) => `s3://bucket/${tail}`),
    );
    fc.assert(
      fc.property(text, (url) => {
        try {
          expect(['s3', 'file']).toContain(parseUploadUrl(url).kind);
        } catch (error) {
          expect(error).toBeInstanceOf(Failure);
        }
      }),
    );
  });
});

describe('delivery to S3', () => {
  let s3: S3Server;
  let url: string;
  beforeAll(async () => {
    s3 = await startS3({ credentials, buckets: ['evidence', 'denied'] });
  });
  afterAll(() => s3.stop());
  beforeEach((context) => {
    s3.faults.failNext(0, 500);
    url = `s3://evidence/${context.task.id}?endpoint=${s3.endpoint}`;
  });
  const prefixOf = (text: string) => new URL(text).pathname.slice(1);
  const stored = (name: string | undefined) => s3.objects('evidence').get(`${prefixOf(url)}/${name}`);

  it('stores both files with checksum and SHA-256, and reads them back', async () => {
    const before = s3.requests.length;
    const progress: DeliveryProgress[] = [];
    const delivered = await run(url, { onProgress: (step) => progress.push(step) });
    expect(delivered.map(({ where }) => where)).toEqual(
      names.map((name) => `s3://evidence/${prefixOf(url)}/${name}`),
    );
    const object = stored(names[0]);
    expect(object?.bytes.equals(archive)).toBe(true);
    expect(object?.metadata.sha256).toBe(createHash('sha256').update(archive).digest('hex'));
    expect(object?.checksums.crc32).toHaveLength(8);
    const methods = s3.requests.slice(before).map((line) => line.split(' ')[0]);
    expect(methods).toEqual(['PUT', 'GET', 'PUT', 'GET']);
    const last = progress.findLast(({ file, phase }) => file === files[0] && phase === 'read back');
    expect(last).toMatchObject({ bytes: archive.length, total: archive.length });
    expect(progress.findLast(({ file, phase }) => file === files[0] && phase === 'upload')?.bytes).toBe(
      archive.length,
    );
  });

  it('can be repeated: what already lies there counts, and is not written again', async () => {
    await run(url);
    const first = stored(names[0])?.modified;
    await expect(run(url)).resolves.toMatchObject([{ file: files[0] }, { file: files[1] }]);
    expect(stored(names[0])?.modified).toBe(first);
  });

  it('delivers nothing under the name of a file that is not what was signed', async () => {
    const sha256 = new Map([[files[0] ?? '', '0'.repeat(64)]]);
    for (const to of [url, `file://${join(directory, 'there')}`])
      await expect(run(to, { sha256 })).rejects.toMatchObject({ code: 'upload-source-damaged' });
    expect(stored(names[0])).toBeUndefined();
    expect(existsSync(join(directory, 'there'))).toBe(false);
  });

  it('goes on from where an upload broke off between the two files', async () => {
    await run(url, { files: files.slice(0, 1) });
    await run(url);
    expect(stored(names[1])).toBeDefined();
  });

  it('never overwrites other content under the same name', async () => {
    await run(url);
    writeFileSync(files[0] ?? '', 'another bundle');
    await expect(run(url)).rejects.toMatchObject({
      code: 'upload-conflict',
      kept: expect.stringContaining('kept'),
    });
    expect(stored(names[0])?.bytes.equals(archive)).toBe(true);
  });

  it.each([
    ['on the way', 'corrupt'],
    ['in the store', 'rot'],
  ] as const)('notices what was damaged %s, and takes a second look at it', async (_where, fault) => {
    s3.faults.failNext(2, fault);
    await expect(run(url)).rejects.toMatchObject({ code: 'upload-corrupt', kept: expect.any(String) });
    const before = s3.requests.length;
    s3.faults.failNext(1, fault);
    await expect(run(url)).resolves.toHaveLength(2);
    const read = s3.requests.slice(before).filter((line) => /^GET .* 200$/.test(line));
    expect(read).toHaveLength(3);
  });

  it.each([
    [500, 'upload-refused'],
    ['slow', 'upload-refused'],
    [403, 'upload-denied'],
    ['reset', 'upload-unreachable'],
  ] as const)(
    'that meets %s is a Failure %s which keeps the bundle, and succeeds afterwards',
    async (fault, code) => {
      s3.faults.failNext(100, fault);
      await expect(run(url)).rejects.toMatchObject({ code, kept: expect.stringContaining('tried again') });
      s3.faults.failNext(0, fault);
      await expect(run(url)).resolves.toBeDefined();
    },
  );

  it('that loses only the read-back is finished by the next attempt', async () => {
    s3.faults.failNext(100, 503, 'GET');
    await expect(run(url)).rejects.toMatchObject({ code: 'upload-refused' });
    s3.faults.failNext(0, 503);
    await run(url);
    expect(stored(names[1])).toBeDefined();
  });

  it.each([
    ['a wrong secret', { secretAccessKey: 'guess' }, 'SignatureDoesNotMatch'],
    ['an unknown key', { accessKeyId: 'NOBODY' }, 'InvalidAccessKeyId'],
  ])('with %s is denied, and the message holds no secret', async (_what, wrong, said) => {
    const failure = await run(url, { credentials: async () => ({ ...credentials, ...wrong }) }).catch(
      (error: unknown) => error as Failure,
    );
    expect(failure).toMatchObject({ code: 'upload-denied', message: expect.stringContaining(said) });
    expect(JSON.stringify(failure)).not.toMatch(/courier-secret|guess/);
  });

  it('to a missing bucket says which', async () => {
    const missing = `s3://missing/x?endpoint=${s3.endpoint}`;
    await expect(run(missing)).rejects.toMatchObject({ code: 'upload-bucket-missing' });
  });

  it('to a port where nobody listens is unreachable', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    await expect(run(`s3://evidence/x?endpoint=http://127.0.0.1:${port}`)).rejects.toMatchObject({
      code: 'upload-unreachable',
      message: expect.stringContaining('ECONNREFUSED'),
    });
  });

  it('ends with the reason of an abort, even while the store hangs', async () => {
    const abort = new AbortController();
    s3.faults.failNext(1, 'hang');
    const upload = run(url, { signal: abort.signal });
    setTimeout(() => abort.abort(new Error('courier stops')), 100);
    await expect(upload).rejects.toThrow('courier stops');
    await expect(run(url, { signal: abort.signal })).rejects.toThrow('courier stops');
  });

  it('passes on why there are no credentials', async () => {
    const none = async () => {
      throw new Failure('credentials-missing', 'There is no credential file.');
    };
    await expect(run(url, { credentials: none })).rejects.toMatchObject({ code: 'credentials-missing' });
  });

  it('of a file that is gone says so', async () => {
    rmSync(files[0] ?? '');
    await expect(run(url)).rejects.toMatchObject({ code: 'upload-source-missing' });
  });
});

describe('delivery to a directory', () => {
  const target = () => join(directory, 'stick', 'evidence');
  const url = () => pathToFileURL(target()).href;

  it('copies both files, reads them back and leaves nothing beside them', async () => {
    const delivered = await run(url());
    expect(delivered.map(({ where }) => where)).toEqual(
      names.map((name) => pathToFileURL(join(target(), name)).href),
    );
    expect(readdirSync(target()).sort()).toEqual(names);
    expect(readFileSync(join(target(), names[0] ?? '')).equals(archive)).toBe(true);
  });
  it('can be repeated, also after a copy that was killed half-way', async () => {
    mkdirSync(target(), { recursive: true });
    writeFileSync(join(target(), `.${names[0]}.part`), 'half');
    await run(url());
    await run(url());
    expect(readdirSync(target()).sort()).toEqual(names);
  });
  it('never overwrites other content under the same name', async () => {
    await run(url());
    writeFileSync(files[1] ?? '', 'another');
    await expect(run(url())).rejects.toMatchObject({ code: 'upload-conflict' });
  });
  it('says when the directory cannot be written', async () => {
    writeFileSync(join(directory, 'stick'), 'a file');
    await expect(run(url())).rejects.toMatchObject({ code: 'upload-directory', kept: expect.any(String) });
    expect(existsSync(files[0] ?? '')).toBe(true);
  });
  it('asks for no credentials and stops when aborted', async () => {
    const never = () => Promise.reject(new Error('asked'));
    await run(url(), { credentials: never });
    await expect(run(url(), { signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
  });
});
