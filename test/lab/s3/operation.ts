// The operations, one function each. A query parameter or x-amz- header that an operation does not know is refused with
// NotImplemented, so that nothing is silently taken for done.
import {
  attributesOf,
  type Bucket,
  invalidArgument,
  requireChecksumForLock,
  type StoredObject,
  wholeContent,
} from './bucket.ts';
import { notImplemented, S3Error, xml } from './error.ts';
import type { Multipart } from './multipart.ts';
import type { Payload } from './payload.ts';

export interface Call {
  readonly method: string;
  readonly bucket: Bucket;
  readonly multipart: Multipart;
  /** Empty for the bucket itself. */
  readonly key: string;
  /** Without the parameters of a presigned URL. */
  readonly query: ReadonlyMap<string, string>;
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Payload;
  readonly now: Date;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
}

interface Operation {
  readonly method: string;
  readonly scope: 'bucket' | 'object';
  /** The parameters that select it. */
  readonly needs: readonly string[];
  readonly allows?: readonly string[];
  /** The x-amz- and conditional headers it understands, beyond those of every request. */
  readonly headers?: RegExp;
  readonly run: (call: Call) => Answer;
}

const checksums = 'x-amz-checksum-(crc32|crc32c|crc64nvme|sha1|sha256)';
const locks = 'x-amz-object-lock-(mode|retain-until-date|legal-hold)|x-amz-bypass-governance-retention';
const whole = new RegExp(
  `^(x-amz-meta-.+|${checksums}|x-amz-sdk-checksum-algorithm|${locks}|x-amz-server-side-encryption|if-none-match)$`,
);
const part = new RegExp(`^(${checksums}|x-amz-sdk-checksum-algorithm)$`);
const opening = new RegExp(
  `^(x-amz-meta-.+|x-amz-checksum-(algorithm|type)|${locks}|x-amz-server-side-encryption)$`,
);
const closing = new RegExp(`^(${checksums}|x-amz-checksum-type|if-none-match)$`);
const removing = /^x-amz-bypass-governance-retention$/;
const everyRequest = /^x-amz-(content-sha256|date|security-token|user-agent|trailer|decoded-content-length)$/;
const reading = /^(x-amz-checksum-mode|range)$/;

const operations: readonly Operation[] = [
  { method: 'PUT', scope: 'object', needs: ['partNumber', 'uploadId'], headers: part, run: uploadPart },
  { method: 'PUT', scope: 'object', needs: [], headers: whole, run: putObject },
  { method: 'GET', scope: 'object', needs: [], headers: reading, run: readObject },
  { method: 'HEAD', scope: 'object', needs: [], headers: reading, run: readObject },
  { method: 'POST', scope: 'object', needs: ['uploads'], headers: opening, run: createMultipart },
  { method: 'POST', scope: 'object', needs: ['uploadId'], headers: closing, run: completeMultipart },
  { method: 'DELETE', scope: 'object', needs: ['uploadId'], run: abortMultipart },
  { method: 'DELETE', scope: 'object', needs: [], headers: removing, run: deleteObject },
  { method: 'HEAD', scope: 'bucket', needs: [], run: () => ({ status: 200 }) },
  {
    method: 'GET',
    scope: 'bucket',
    needs: ['list-type'],
    allows: ['prefix', 'delimiter', 'max-keys', 'continuation-token', 'start-after', 'encoding-type'],
    run: listObjects,
  },
];

/** @throws S3Error: what S3 would answer, or NotImplemented. */
export function perform(call: Call): Answer {
  const scope = call.key === '' ? 'bucket' : 'object';
  const operation = operations.find(
    ({ method, needs, ...rest }) =>
      method === call.method && rest.scope === scope && needs.every((name) => call.query.has(name)),
  );
  if (operation === undefined) throw notImplemented(`${call.method} on a ${scope} without its parameters`);
  const known = ['x-id', ...operation.needs, ...(operation.allows ?? [])];
  const strange = [...call.query.keys()].find((name) => !known.includes(name));
  if (strange !== undefined) throw notImplemented(`the parameter ${strange} here`);
  for (const name of Object.keys(call.headers)) {
    const telling = /^(x-amz-|if-|range$)/.test(name);
    if (telling && !everyRequest.test(name) && !operation.headers?.test(name)) {
      throw notImplemented(`the header ${name} here`);
    }
  }
  return operation.run(call);
}

function putObject({ bucket, key, payload, headers, now }: Call): Answer {
  const attributes = attributesOf(headers, now);
  bucket.requireLockable(attributes);
  requireChecksumForLock(attributes, payload);
  const object = bucket.put(key, wholeContent(payload), attributes, headers, now);
  return { status: 200, headers: { etag: object.etag, ...checksumHeaders(object) } };
}

function readObject({ method, bucket, key, headers }: Call): Answer {
  const object = bucket.get(key);
  const described: Record<string, string> = {
    etag: object.etag,
    'content-type': object.contentType,
    'last-modified': object.modified.toUTCString(),
    'accept-ranges': 'bytes',
    ...Object.fromEntries(
      Object.entries(object.metadata).map(([name, value]) => [`x-amz-meta-${name}`, value]),
    ),
    ...lockHeaders(object),
    ...(object.encryption && { 'x-amz-server-side-encryption': object.encryption }),
  };
  const range = headers.range === undefined ? undefined : parseRange(headers.range, object.bytes.length);
  const bytes = range === undefined ? object.bytes : object.bytes.subarray(range.start, range.end + 1);
  if (range !== undefined) {
    described['content-range'] = `bytes ${range.start}-${range.end}/${object.bytes.length}`;
  } else if (headers['x-amz-checksum-mode'] === 'ENABLED') {
    Object.assign(described, checksumHeaders(object));
  }
  described['content-length'] = String(bytes.length);
  return {
    status: range === undefined ? 200 : 206,
    headers: described,
    ...(method === 'HEAD' ? {} : { body: bytes }),
  };
}

function parseRange(header: string, size: number): { start: number; end: number } | undefined {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header) ?? [];
  if (first === undefined || last === undefined || (first === '' && last === '')) return undefined;
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1);
  if (start > end) throw new S3Error(416, 'InvalidRange', 'The requested range is not satisfiable');
  return { start, end };
}

function deleteObject({ bucket, key, headers, now }: Call): Answer {
  bucket.delete(key, headers, now);
  return { status: 204 };
}

function listObjects({ bucket, query }: Call): Answer {
  if (query.get('list-type') !== '2') throw invalidArgument('Only list-type 2 is served.');
  const prefix = query.get('prefix') ?? '';
  const delimiter = query.get('delimiter') ?? '';
  const limit = Math.min(Number(query.get('max-keys') ?? 1000), 1000);
  if (!(limit >= 0)) throw invalidArgument('Provided max-keys is not an integer or within integer range');
  const token = query.get('continuation-token');
  const after =
    token === undefined ? (query.get('start-after') ?? '') : Buffer.from(token, 'base64').toString();
  const encode = query.get('encoding-type') === 'url' ? encodeURIComponent : (text: string) => text;

  /** A key, or the common prefix that stands for many: sorted by bytes, as S3 sorts. */
  const names = [...bucket.objects.keys()]
    .filter((key) => key.startsWith(prefix))
    .map((key) => {
      const cut = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
      return cut === -1 ? key : key.slice(0, cut + delimiter.length);
    });
  const ordered = [...new Set(names)]
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .filter((name) => Buffer.compare(Buffer.from(name), Buffer.from(after)) > 0);
  const page = ordered.slice(0, limit);
  const truncated = limit > 0 && ordered.length > page.length;
  const contents = page.flatMap((key) => {
    const object = bucket.objects.get(key);
    if (object === undefined) return [];
    const { modified, etag, bytes } = object;
    return [{ Key: encode(key), LastModified: modified.toISOString(), ETag: etag, Size: bytes.length }];
  });
  const common = page.filter((name) => !bucket.objects.has(name)).map((name) => ({ Prefix: encode(name) }));
  return document('ListBucketResult', {
    Name: bucket.name,
    Prefix: encode(prefix),
    KeyCount: page.length,
    MaxKeys: limit,
    IsTruncated: truncated,
    ...(truncated ? { NextContinuationToken: Buffer.from(page.at(-1) ?? '').toString('base64') } : {}),
    Contents: contents,
    CommonPrefixes: common,
  });
}

function createMultipart({ bucket, multipart, key, headers, now }: Call): Answer {
  const attributes = attributesOf(headers, now);
  bucket.requireLockable(attributes);
  const id = multipart.create(key, headers, attributes);
  return document('InitiateMultipartUploadResult', { Bucket: bucket.name, Key: key, UploadId: id });
}

function uploadPart({ multipart, key, query, payload }: Call): Answer {
  const etag = multipart.putPart(query.get('uploadId') ?? '', key, Number(query.get('partNumber')), payload);
  const declared = payload.checksum;
  return {
    status: 200,
    headers: { etag, ...(declared && { [`x-amz-checksum-${declared.algorithm}`]: declared.value }) },
  };
}

function completeMultipart({ bucket, multipart, key, query, payload, headers, now }: Call): Answer {
  const id = query.get('uploadId') ?? '';
  const { content, attributes } = multipart.assemble(id, key, payload.bytes.toString(), headers);
  const object = bucket.put(key, content, attributes, headers, now);
  multipart.finish(id, key);
  const [algorithm, value] = Object.entries(object.checksums)[0] ?? ['', ''];
  return document('CompleteMultipartUploadResult', {
    Bucket: bucket.name,
    Key: key,
    ETag: object.etag,
    [`Checksum${algorithm.toUpperCase()}`]: value,
    ChecksumType: object.checksumType,
  });
}

function abortMultipart({ multipart, key, query }: Call): Answer {
  multipart.finish(query.get('uploadId') ?? '', key);
  return { status: 204 };
}

function checksumHeaders(object: StoredObject): Record<string, string> {
  const values = Object.entries(object.checksums).map(([algorithm, value]) => [
    `x-amz-checksum-${algorithm}`,
    value,
  ]);
  return { ...Object.fromEntries(values), 'x-amz-checksum-type': object.checksumType };
}

function lockHeaders({ lock }: StoredObject): Record<string, string> {
  return {
    ...(lock?.retention && {
      'x-amz-object-lock-mode': lock.retention.mode,
      'x-amz-object-lock-retain-until-date': lock.retention.until.toISOString(),
    }),
    ...(lock?.legalHold && { 'x-amz-object-lock-legal-hold': 'ON' }),
  };
}

const document = (root: string, children: Parameters<typeof xml>[1]): Answer => ({
  status: 200,
  headers: { 'content-type': 'application/xml' },
  body: xml(root, children),
});
