// The S3 server of the lab against the real AWS SDK, and against the examples that Amazon publishes.

import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type PutObjectCommandInput,
  S3Client,
  type S3ClientConfig,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checksum, checksumAlgorithms } from './s3/checksum.ts';
import { decodeChunks } from './s3/payload.ts';
import {
  authenticate,
  canonicalRequest,
  chunkSignature,
  type SignedRequest,
  sha256,
  signingKey,
} from './s3/signature.ts';
import { type S3Server, startS3 } from './s3.ts';

const credentials = { accessKeyId: 'LABKEY', secretAccessKey: 'lab-secret' };
const bucket = 'evidence';
let directory: string;
let s3: S3Server;
let client: S3Client;
const connect = (more: S3ClientConfig = {}) =>
  new S3Client({
    endpoint: s3.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    maxAttempts: 1,
    credentials,
    ...more,
  });
const put = (Key: string, Body: string | Buffer, more: Partial<PutObjectCommandInput> = {}) =>
  client.send(new PutObjectCommand({ Bucket: bucket, Key, Body, ...more }));
const get = async (Key: string) => {
  const answer = await client.send(new GetObjectCommand({ Bucket: bucket, Key }));
  return { answer, text: await answer.Body?.transformToString() };
};

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'ea-s3-'));
  s3 = await startS3({ credentials, buckets: [bucket], directory });
  client = connect();
});
afterAll(async () => {
  client.destroy();
  await s3.stop();
  rmSync(directory, { recursive: true });
});

describe('objects', () => {
  it('come back as they were put, with metadata and checksum, and lie in the directory', async () => {
    const key = "a folder/ä+b&c=d'(1)*!~.txt";
    const before = s3.requests.length;
    await put(key, 'content', { Metadata: { sha256: 'x' }, ContentType: 'text/plain' });
    const { answer, text } = await get(key);
    expect(text).toBe('content');
    expect(answer).toMatchObject({
      ETag: '"9a0364b9e99bb480dd25e1f0284c8555"',
      Metadata: { sha256: 'x' },
      ContentType: 'text/plain',
      ChecksumCRC32: checksum('crc32', Buffer.from('content')),
      ChecksumType: 'FULL_OBJECT',
    });
    expect(readFileSync(join(directory, bucket, key), 'utf8')).toBe('content');
    expect(s3.objects(bucket).get(key)?.metadata).toEqual({ sha256: 'x' });
    expect(s3.requests.slice(before).map((line) => line.split(' ').at(-1))).toEqual(['200', '200']);
  });
  it.each(['CRC32', 'CRC32C', 'SHA1', 'SHA256'] as const)(
    'carry %s, sent as a trailer of a stream',
    async (name) => {
      const { Readable } = await import('node:stream');
      const bytes = Buffer.alloc(200_000, 'x');
      const Body = Readable.from([bytes.subarray(0, 70_001), bytes.subarray(70_001)]);
      const Key = `stream-${name}`;
      await client.send(
        new PutObjectCommand({
          Bucket: bucket,
          Key,
          Body,
          ContentLength: bytes.length,
          ChecksumAlgorithm: name,
        }),
      );
      expect(s3.objects(bucket).get(Key)?.bytes.equals(bytes)).toBe(true);
      const head = await client.send(new HeadObjectCommand({ Bucket: bucket, Key, ChecksumMode: 'ENABLED' }));
      const algorithm = name.toLowerCase() as 'crc32';
      expect(head[`Checksum${name}`]).toBe(checksum(algorithm, bytes));
    },
  );
  it('are refused when the declared checksum or MD5 is wrong', async () => {
    const wrong = checksum('sha256', Buffer.from('other'));
    await expect(put('wrong', 'content', { ChecksumSHA256: wrong })).rejects.toMatchObject({
      name: 'BadDigest',
    });
    const md5 = { ContentMD5: 'AAAAAAAAAAAAAAAAAAAAAA==' };
    await expect(put('wrong', 'content', md5)).rejects.toMatchObject({ name: 'BadDigest' });
    await expect(put('wrong', 'content', { ContentMD5: 'AAAA' })).rejects.toMatchObject({
      name: 'InvalidDigest',
    });
    expect(s3.objects(bucket).has('wrong')).toBe(false);
  });
  it('come back in ranges', async () => {
    await put('range', '0123456789');
    const range = async (Range: string) => {
      const answer = await client.send(new GetObjectCommand({ Bucket: bucket, Key: 'range', Range }));
      return [answer.ContentRange, await answer.Body?.transformToString()];
    };
    expect(await range('bytes=2-4')).toEqual(['bytes 2-4/10', '234']);
    expect(await range('bytes=7-')).toEqual(['bytes 7-9/10', '789']);
    expect(await range('bytes=-2')).toEqual(['bytes 8-9/10', '89']);
    await expect(range('bytes=20-30')).rejects.toMatchObject({ name: 'InvalidRange' });
  });
  it('are not overwritten by a conditional put', async () => {
    await put('once', 'first', { IfNoneMatch: '*' });
    await expect(put('once', 'second', { IfNoneMatch: '*' })).rejects.toMatchObject({
      name: 'PreconditionFailed',
      $metadata: { httpStatusCode: 412 },
    });
    expect((await get('once')).text).toBe('first');
  });
  it('are deleted, and missing ones are NoSuchKey', async () => {
    await put('gone', 'x');
    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'gone' }));
    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'gone' }));
    await expect(get('gone')).rejects.toMatchObject({ name: 'NoSuchKey' });
    await expect(client.send(new HeadObjectCommand({ Bucket: bucket, Key: 'gone' }))).rejects.toMatchObject({
      $metadata: { httpStatusCode: 404 },
    });
  });
  it('are listed in pages, by prefix and by folder', async () => {
    for (const name of ['p/1', 'p/2', 'p/q/3', 'p/q/4', 'p/ö']) await put(name, name);
    const list = (more: object) =>
      client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: 'p/', ...more }));
    const first = await list({ MaxKeys: 3 });
    const second = await list({ ContinuationToken: first.NextContinuationToken });
    const keys = [first, second].flatMap((page) => page.Contents?.map(({ Key }) => Key));
    expect(keys).toEqual(['p/1', 'p/2', 'p/q/3', 'p/q/4', 'p/ö']);
    expect([first.IsTruncated, second.IsTruncated]).toEqual([true, false]);
    const folders = await list({ Delimiter: '/' });
    expect(folders.CommonPrefixes).toEqual([{ Prefix: 'p/q/' }]);
    expect(folders.Contents?.map(({ Key }) => Key)).toEqual(['p/1', 'p/2', 'p/ö']);
    expect((await list({ StartAfter: 'p/q/3' })).KeyCount).toBe(2);
  });
});

describe('multipart uploads', () => {
  const large = Buffer.alloc(5 << 20, 'm');
  const tail = Buffer.from('tail');
  const start = async (more: object = {}) => {
    const target = { Bucket: bucket, Key: 'large' };
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ ...target, ...more }));
    return { ...target, UploadId };
  };
  it.each([
    ['SHA256', undefined, 'COMPOSITE'],
    ['CRC32', 'FULL_OBJECT', 'FULL_OBJECT'],
    ['CRC32C', undefined, 'COMPOSITE'],
  ] as const)('are assembled with %s', async (ChecksumAlgorithm, ChecksumType, type) => {
    const upload = await start({ ChecksumAlgorithm, ...(ChecksumType && { ChecksumType }) });
    const parts = [large, tail].map(async (Body, index) => {
      const part = { ...upload, PartNumber: index + 1, Body, ChecksumAlgorithm };
      const { ETag, [`Checksum${ChecksumAlgorithm}` as const]: sum } = await client.send(
        new UploadPartCommand(part),
      );
      return { ETag, PartNumber: index + 1, [`Checksum${ChecksumAlgorithm}`]: sum };
    });
    const MultipartUpload = { Parts: await Promise.all(parts) };
    const done = await client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload }));
    expect(done.ETag).toMatch(/^"[0-9a-f]{32}-2"$/);
    expect(done.ChecksumType).toBe(type);
    const stored = s3.objects(bucket).get('large');
    expect(stored?.bytes.equals(Buffer.concat([large, tail]))).toBe(true);
    if (type === 'FULL_OBJECT')
      expect(stored?.checksums.crc32).toBe(checksum('crc32', Buffer.concat([large, tail])));
    else expect(Object.values(stored?.checksums ?? {})[0]).toMatch(/-2$/);
    await expect(
      client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload })),
    ).rejects.toMatchObject({ name: 'NoSuchUpload' });
  });
  it('are refused with small, unknown or disordered parts, and can be aborted', async () => {
    const upload = await start();
    const etags: (string | undefined)[] = [];
    for (const PartNumber of [1, 2]) {
      const part = {
        ...upload,
        PartNumber,
        Body: tail,
        ChecksumAlgorithm: 'CRC64NVME' as const,
        ChecksumCRC64NVME: checksum('crc64nvme', tail),
      };
      etags.push((await client.send(new UploadPartCommand(part))).ETag);
    }
    const complete = (...parts: [number, string | undefined][]) => {
      const Parts = parts.map(([PartNumber, ETag]) => ({ PartNumber, ETag }));
      return client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } }));
    };
    await expect(complete([1, etags[0]], [2, etags[1]])).rejects.toMatchObject({ name: 'EntityTooSmall' });
    await expect(complete([2, etags[1]], [1, etags[0]])).rejects.toMatchObject({
      name: expect.stringMatching(/EntityTooSmall|InvalidPartOrder/),
    });
    await expect(complete([1, '"00"'])).rejects.toMatchObject({ name: 'InvalidPart' });
    await client.send(new AbortMultipartUploadCommand(upload));
    await expect(complete([1, etags[0]])).rejects.toMatchObject({ name: 'NoSuchUpload' });
  });
});

describe('Object Lock', () => {
  const until = () => new Date(Date.now() + 60_000);
  it('denies deletion and overwriting until its date, and says so in the headers', async () => {
    const lock = { ObjectLockMode: 'COMPLIANCE' as const, ObjectLockRetainUntilDate: until() };
    await put('locked', 'evidence', lock);
    await expect(put('locked', 'other')).rejects.toMatchObject({ name: 'AccessDenied' });
    const removal = { Bucket: bucket, Key: 'locked', BypassGovernanceRetention: true };
    await expect(client.send(new DeleteObjectCommand(removal))).rejects.toMatchObject({
      name: 'AccessDenied',
    });
    const { answer, text } = await get('locked');
    expect([text, answer.ObjectLockMode]).toEqual(['evidence', 'COMPLIANCE']);
  });
  it('gives way to a governance bypass, but not to one under legal hold', async () => {
    const lock = { ObjectLockMode: 'GOVERNANCE' as const, ObjectLockRetainUntilDate: until() };
    await put('governed', 'x', lock);
    await put('held', 'x', { ...lock, ObjectLockLegalHoldStatus: 'ON' });
    const remove = (Key: string) =>
      client.send(new DeleteObjectCommand({ Bucket: bucket, Key, BypassGovernanceRetention: true }));
    await remove('governed');
    expect(s3.objects(bucket).has('governed')).toBe(false);
    await expect(remove('held')).rejects.toMatchObject({ name: 'AccessDenied' });
  });
  it('is refused when incomplete or in the past', async () => {
    await expect(put('bad', 'x', { ObjectLockMode: 'COMPLIANCE' })).rejects.toMatchObject({
      name: 'InvalidArgument',
    });
    const past = { ObjectLockMode: 'COMPLIANCE' as const, ObjectLockRetainUntilDate: new Date(0) };
    await expect(put('bad', 'x', past)).rejects.toMatchObject({ name: 'InvalidArgument' });
  });
});

describe('what S3 refuses, and this server too', () => {
  it.each([
    [
      'a wrong secret',
      { credentials: { ...credentials, secretAccessKey: 'guess' } },
      'SignatureDoesNotMatch',
    ],
    ['an unknown key', { credentials: { ...credentials, accessKeyId: 'NOBODY' } }, 'InvalidAccessKeyId'],
    ['a stray session token', { credentials: { ...credentials, sessionToken: 't' } }, 'InvalidToken'],
    ['a wrong region', { region: 'eu-west-1' }, 'AuthorizationHeaderMalformed'],
    ['a skewed clock', { systemClockOffset: 16 * 60_000 }, 'RequestTimeTooSkewed'],
  ])('%s', async (_what, config, name) => {
    const other = connect(config);
    const request = new PutObjectCommand({ Bucket: bucket, Key: 'refused', Body: 'x' });
    await expect(other.send(request)).rejects.toMatchObject({ name });
    expect(s3.objects(bucket).has('refused')).toBe(false);
    other.destroy();
  });
  it('an unknown bucket', async () => {
    const elsewhere = { Bucket: 'elsewhere', Key: 'x', Body: 'x' };
    await expect(client.send(new PutObjectCommand(elsewhere))).rejects.toMatchObject({
      name: 'NoSuchBucket',
    });
    await client.send(new HeadBucketCommand({ Bucket: bucket }));
    expect(() => s3.objects('elsewhere')).toThrow();
  });
  it('says NotImplemented instead of pretending', async () => {
    await expect(client.send(new ListBucketsCommand({}))).rejects.toMatchObject({ name: 'NotImplemented' });
    for (const more of [
      { StorageClass: 'GLACIER' },
      { IfMatch: '"x"' },
      { ACL: 'private' },
      { Tagging: 'a=b' },
    ] as const) {
      await expect(put('strange', 'x', more)).rejects.toMatchObject({ name: 'NotImplemented' });
    }
    const versioned = { Bucket: bucket, Key: 'once', VersionId: 'v1' };
    await expect(client.send(new GetObjectCommand(versioned))).rejects.toMatchObject({
      name: 'NotImplemented',
    });
  });
  it('an anonymous request and one with a changed body', async () => {
    expect((await fetch(`${s3.endpoint}/${bucket}/once`)).status).toBe(403);
    const answer = await send('PUT', '/evidence/changed', { payloadHash: sha256('a'), body: 'b' });
    expect(answer).toEqual([400, 'XAmzContentSHA256Mismatch']);
  });
});

describe('faults on request', () => {
  it.each([
    [500, 'InternalError'],
    ['slow', 'SlowDown'],
  ] as const)('%s comes as often as asked for, then no more', async (fault, name) => {
    s3.faults.failNext(2, fault);
    for (const attempt of [1, 2]) {
      await expect(put(`f-${attempt}`, 'x')).rejects.toMatchObject({ name });
    }
    await put('f-3', 'x');
  });
  it('a reset breaks the connection', async () => {
    s3.faults.failNext(1, 'reset', 'PUT');
    await get('f-3');
    await expect(put('f-4', 'x')).rejects.toMatchObject({ code: 'ECONNRESET' });
  });
  it('a hang answers nothing until the client gives up', async () => {
    s3.faults.failNext(1, 'hang');
    await expect(
      client.send(new HeadBucketCommand({ Bucket: bucket }), { abortSignal: AbortSignal.timeout(50) }),
    ).rejects.toMatchObject({ name: 'AbortError' });
  });
  it('corruption on the way is what the checksum tells, rot in the store is not', async () => {
    await put('rotten', 'content');
    s3.faults.failNext(1, 'corrupt');
    await expect(get('rotten')).rejects.toThrow(/checksum mismatch/i);
    s3.faults.failNext(1, 'rot');
    expect((await get('rotten')).text).toBe('conuent');
  });
});

/** A request signed with the primitives that the published examples below pin down. */
async function send(
  method: string,
  path: string,
  options: {
    payloadHash: string;
    headers?: Record<string, string>;
    body: string | ((signature: string, context: Parameters<typeof chunkSignature>[0]) => string);
  },
): Promise<[number, string | undefined]> {
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  const scope = `${time.slice(0, 8)}/us-east-1/s3/aws4_request`;
  const key = signingKey(credentials.secretAccessKey, time.slice(0, 8), 'us-east-1');
  const headers: Record<string, string> = {
    host: new URL(s3.endpoint).host,
    'x-amz-content-sha256': options.payloadHash,
    'x-amz-date': time,
    ...options.headers,
  };
  const names = Object.keys(headers).sort();
  const canonical = canonicalRequest({ method, path, query: [], headers }, names, options.payloadHash);
  const signature = createHmac('sha256', key)
    .update(['AWS4-HMAC-SHA256', time, scope, sha256(canonical)].join('\n'))
    .digest('hex');
  const credential = `${credentials.accessKeyId}/${scope}`;
  headers.authorization = `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${names.join(';')}, Signature=${signature}`;
  const body =
    typeof options.body === 'string'
      ? options.body
      : options.body(signature, { key, time, scope, signature });
  const answer = await fetch(s3.endpoint + path, { method, headers, body });
  return [answer.status, /<Code>(.*)<\/Code>/.exec(await answer.text())?.[1]];
}

describe('aws-chunked framing', () => {
  const sum = checksum('crc64nvme', Buffer.from('hello'));
  const chunked = (payloadHash: string, trailer: boolean, spoil: (body: string) => string = (body) => body) =>
    send('PUT', '/evidence/chunked', {
      payloadHash,
      headers: {
        'content-encoding': 'aws-chunked',
        'x-amz-decoded-content-length': '5',
        ...(trailer ? { 'x-amz-trailer': 'x-amz-checksum-crc64nvme' } : {}),
      },
      body: (seed, context) => {
        const signed = payloadHash.includes('HMAC');
        const first = chunkSignature(context, 'PAYLOAD', seed, 'hello');
        const last = chunkSignature(context, 'PAYLOAD', first, '');
        const closing = chunkSignature(context, 'TRAILER', last, `x-amz-checksum-crc64nvme:${sum}\n`);
        const by = (signature: string) => (signed ? `;chunk-signature=${signature}` : '');
        const trailers = trailer
          ? `x-amz-checksum-crc64nvme:${sum}\r\n${signed ? `x-amz-trailer-signature:${closing}\r\n` : ''}`
          : '';
        return spoil(`5${by(first)}\r\nhello\r\n0${by(last)}\r\n${trailers}\r\n`);
      },
    });
  const signed = 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD';
  const unsigned = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER';
  it.each([
    [signed, false],
    [`${signed}-TRAILER`, true],
    [unsigned, true],
  ])('%s is decoded', async (payloadHash, trailer) => {
    expect(await chunked(payloadHash, trailer)).toEqual([200, undefined]);
    expect(s3.objects(bucket).get('chunked')?.bytes.toString()).toBe('hello');
  });
  const swap = (from: string | RegExp, to: string) => (body: string) => body.replace(from, to);
  it.each([
    ['changed content', signed, false, swap('hello', 'hallo'), 'SignatureDoesNotMatch'],
    [
      'a missing chunk signature',
      signed,
      false,
      swap(/;chunk-signature=[0-9a-f]+/, ''),
      'SignatureDoesNotMatch',
    ],
    [
      'a changed trailer signature',
      `${signed}-TRAILER`,
      true,
      swap(/signature:../, 'signature:xx'),
      'SignatureDoesNotMatch',
    ],
    ['changed content under a trailer', unsigned, true, swap('hello', 'hallo'), 'BadDigest'],
    [
      'a trailer that was not announced',
      unsigned,
      true,
      swap('crc64nvme:', 'crc32:'),
      'MalformedTrailerError',
    ],
    ['no trailer', unsigned, true, swap(/x-amz-.*\r\n/, ''), 'MalformedTrailerError'],
    ['a malformed trailer', unsigned, true, swap('nvme:', 'nvme '), 'MalformedTrailerError'],
    ['a missing last chunk', unsigned, true, swap(/0\r\nx-amz.*$/s, ''), 'IncompleteBody'],
    ['a chunk longer than announced', unsigned, true, swap('hello', 'hello!'), 'InvalidRequest'],
    ['a chunk size that is none', unsigned, true, swap('5', 'five'), 'InvalidRequest'],
    [
      'more data than the decoded length',
      unsigned,
      true,
      swap('5\r\nhello', '6\r\nhello!'),
      'IncompleteBody',
    ],
    ['data after the end', unsigned, true, swap(/$/, 'more\r\n'), expect.stringMatching(/Malformed|Invalid/)],
  ])('%s is refused', async (_what, payloadHash, trailer, spoil, code) => {
    const [status, name] = await chunked(payloadHash, trailer, spoil);
    expect([status >= 400 && status < 500, name]).toEqual([true, code]);
  });
  it('aws-chunked without its payload hash is refused', async () => {
    const headers = { 'content-encoding': 'aws-chunked' };
    const answer = await send('PUT', '/evidence/x', { payloadHash: 'UNSIGNED-PAYLOAD', headers, body: 'x' });
    expect(answer).toEqual([501, 'NotImplemented']);
    expect(await send('PUT', '/evidence/x', { payloadHash: 'OTHER', body: 'x' })).toEqual([
      501,
      'NotImplemented',
    ]);
  });
});

// Amazon S3 API reference, "Signature calculations" (header, chunked) and "Authenticating requests: query parameters".
describe('the examples that Amazon publishes', () => {
  const example = {
    credentials: {
      accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
      secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
    },
    region: 'us-east-1',
    now: new Date('2013-05-24T00:00:00Z'),
  };
  const scope = 'AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request';
  const authorization = (signedHeaders: string, signature: string) =>
    `AWS4-HMAC-SHA256 Credential=${scope},SignedHeaders=${signedHeaders},Signature=${signature}`;
  const presigned = (expires: string): SignedRequest => ({
    method: 'GET',
    path: '/test.txt',
    query: [
      ['X-Amz-Algorithm', 'AWS4-HMAC-SHA256'],
      ['X-Amz-Credential', scope],
      ['X-Amz-Date', '20130524T000000Z'],
      ['X-Amz-Expires', expires],
      ['X-Amz-SignedHeaders', 'host'],
      ['X-Amz-Signature', 'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404'],
    ],
    headers: { host: 'examplebucket.s3.amazonaws.com' },
  });

  it('a GET with a signed header', () => {
    const empty = sha256('');
    const headers = {
      host: 'examplebucket.s3.amazonaws.com',
      range: 'bytes=0-9',
      'x-amz-content-sha256': empty,
      'x-amz-date': '20130524T000000Z',
      authorization: authorization(
        'host;range;x-amz-content-sha256;x-amz-date',
        'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
      ),
    };
    const request = { method: 'GET', path: '/test.txt', query: [], headers };
    expect(authenticate(request, example).payloadHash).toBe(empty);
    const tampered = { ...request, headers: { ...headers, range: 'bytes=0-90' } };
    expect(() => authenticate(tampered, example)).toThrow(/does not match/);
    const smuggled = { ...request, headers: { ...headers, 'x-amz-meta-a': 'b' } };
    expect(() => authenticate(smuggled, example)).toThrow(/not signed/);
  });
  it('a presigned URL, until it expires', () => {
    expect(authenticate(presigned('86400'), example).payloadHash).toBe('UNSIGNED-PAYLOAD');
    const later = { ...example, now: new Date('2013-05-25T00:00:01Z') };
    expect(() => authenticate(presigned('86400'), later)).toThrow('Request has expired');
    expect(() => authenticate(presigned('604801'), example)).toThrow(/X-Amz-Expires/);
  });
  it('an upload in signed chunks', () => {
    const headers = {
      host: 's3.amazonaws.com',
      'content-encoding': 'aws-chunked',
      'content-length': '66824',
      'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
      'x-amz-date': '20130524T000000Z',
      'x-amz-decoded-content-length': '66560',
      'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      authorization: authorization(
        'content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class',
        '4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9',
      ),
    };
    const path = '/examplebucket/chunkObject.txt';
    const { context } = authenticate({ method: 'PUT', path, query: [], headers }, example);
    const body = Buffer.from(
      `10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n${'a'.repeat(65_536)}\r\n` +
        `400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n${'a'.repeat(1024)}\r\n` +
        '0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n',
    );
    const { bytes } = decodeChunks(body, { signed: true, trailer: false }, context);
    expect([body.length, bytes.length]).toEqual([66_824, 66_560]);
  });
  it('a presigned URL is served end to end, hoisted headers included', async () => {
    const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
    const day = time.slice(0, 8);
    const query: [string, string][] = [
      ['X-Amz-Algorithm', 'AWS4-HMAC-SHA256'],
      ['X-Amz-Credential', `${credentials.accessKeyId}/${day}/us-east-1/s3/aws4_request`],
      ['X-Amz-Date', time],
      ['X-Amz-Expires', '60'],
      ['X-Amz-SignedHeaders', 'host'],
      ['x-amz-meta-case', '7'],
    ];
    const host = new URL(s3.endpoint).host;
    const request = { method: 'PUT', path: '/evidence/presigned', query, headers: { host } };
    const text = [
      'AWS4-HMAC-SHA256',
      time,
      `${day}/us-east-1/s3/aws4_request`,
      sha256(canonicalRequest(request, ['host'], 'UNSIGNED-PAYLOAD')),
    ];
    const key = signingKey(credentials.secretAccessKey, day, 'us-east-1');
    const signature = createHmac('sha256', key).update(text.join('\n')).digest('hex');
    const search = new URLSearchParams([...query, ['X-Amz-Signature', signature]]);
    const answer = await fetch(`${s3.endpoint}/evidence/presigned?${search}`, { method: 'PUT', body: 'x' });
    expect(answer.status).toBe(200);
    expect(s3.objects(bucket).get('presigned')?.metadata).toEqual({ case: '7' });
  });
  it('the check values of the checksums', () => {
    const values = checksumAlgorithms.map((name) =>
      Buffer.from(checksum(name, Buffer.from('123456789')), 'base64').toString('hex'),
    );
    expect(values.slice(0, 3)).toEqual(['cbf43926', 'e3069283', 'ae8b14860a799888']);
    expect(values[3]).toBe('f7c3bc1d808e04732adf679965ccc34ca7ae3441');
  });
});
