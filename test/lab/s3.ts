// An S3 server for tests and the demo, small and honest: it checks signatures and checksums as S3 does and answers
// NotImplemented to all it does not know. Path-style addressing, one account, memory (and a directory to look into).
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Bucket, type StoredObject } from './s3/bucket.ts';
import { S3Error } from './s3/error.ts';
import { Multipart } from './s3/multipart.ts';
import { type Answer, perform } from './s3/operation.ts';
import { receivePayload } from './s3/payload.ts';
import { authenticate, type Credentials } from './s3/signature.ts';

const largestBody = 1 << 30;
/** Of a presigned URL; other `x-amz-` parameters there are headers that the signer hoisted. */
const signatureParameters: ReadonlySet<string> = new Set(
  [
    'Algorithm',
    'Credential',
    'Date',
    'Expires',
    'SignedHeaders',
    'Signature',
    'Security-Token',
    'Content-Sha256',
  ].map((name) => `X-Amz-${name}`),
);

/**
 * A status with its S3 error; `slow`: 503 SlowDown; `expired`: 400 ExpiredToken; `reset`: the connection breaks, `break`:
 * amid the body; `etag`: done, and answered with a wrong ETag; `hang`: no answer at all. Of reads
 * only: `corrupt`: one bit of the body flips on the way; `rot`: it flips in the store, and no checksum tells.
 */
export type Fault = number | 'slow' | 'expired' | 'reset' | 'break' | 'etag' | 'hang' | 'corrupt' | 'rot';

export interface S3Options {
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default: a free one. */
  readonly port?: number;
  readonly credentials: Credentials;
  readonly buckets: readonly string[];
  /** Those of them that were made without Object Lock. */
  readonly withoutLock?: readonly string[];
  /** Default us-east-1. */
  readonly region?: string;
  /** Objects are also written here, `BUCKET/KEY`. It is not read at start. */
  readonly directory?: string;
  readonly now?: () => Date;
}

export interface S3Server {
  /** `http://HOST:PORT` */
  readonly endpoint: string;
  /** The live content of a bucket. */
  objects(bucket: string): ReadonlyMap<string, StoredObject>;
  readonly faults: {
    /** The next `count` requests (of that method) fail like this. Replaces what was set before. */
    failNext(count: number, fault: Fault, method?: 'PUT' | 'GET' | 'POST' | 'DELETE' | 'HEAD'): void;
  };
  /** Called as each request arrives, before anything is done about it. */
  onRequest: (() => void) | undefined;
  /** `METHOD /path STATUS`, one a request, for assertions and the story of the demo. */
  readonly requests: readonly string[];
  stop(): Promise<void>;
}

export async function startS3(options: S3Options): Promise<S3Server> {
  const buckets = new Map(
    options.buckets.map((name) => [
      name,
      new Bucket(name, options.directory, options.withoutLock?.includes(name) !== true),
    ]),
  );
  const multiparts = new Map(options.buckets.map((name) => [name, new Multipart()]));
  const rules = { credentials: options.credentials, region: options.region ?? 'us-east-1' };
  const clock = options.now ?? (() => new Date());
  const requests: string[] = [];
  const hooks: { onRequest: (() => void) | undefined } = { onRequest: undefined };
  let planned: { left: number; fault: Fault; method: string | undefined } | undefined;

  const nextFault = (method: string): Fault | undefined => {
    if (planned === undefined || planned.left === 0) return undefined;
    if (planned.method !== undefined && planned.method !== method) return undefined;
    if (isReadFault(planned.fault) && method !== 'GET') return undefined;
    planned.left -= 1;
    return planned.fault;
  };

  const serve = async (request: IncomingMessage): Promise<Answer> => {
    const method = request.method ?? '';
    const { path, query, bucketName, key } = parseTarget(request.url ?? '/');
    const headers = joinHeaders(request);
    const body = await readBody(request, headers);
    const now = clock();
    const { payloadHash, context } = authenticate({ method, path, query, headers }, { ...rules, now });
    const rest = query.filter(([name]) => !signatureParameters.has(name));
    const hoisted = rest.filter(([name]) => name.toLowerCase().startsWith('x-amz-'));
    const parameters = new Map(rest.filter((pair) => !hoisted.includes(pair)));
    const all = {
      ...Object.fromEntries(hoisted.map(([name, value]) => [name.toLowerCase(), value])),
      ...headers,
    };
    // CompleteMultipartUpload names the checksum of the object there, not that of its own body.
    const completing = method === 'POST' && parameters.has('uploadId');
    const own = Object.entries(all).filter(([name]) => !completing || !name.startsWith('x-amz-checksum-'));
    const payload = receivePayload(body, Object.fromEntries(own), payloadHash, context);
    const bucket = buckets.get(bucketName);
    const multipart = multiparts.get(bucketName);
    if (bucketName === '') throw new S3Error(501, 'NotImplemented', 'This server does not list buckets.');
    if (bucket === undefined || multipart === undefined) {
      throw new S3Error(404, 'NoSuchBucket', 'The specified bucket does not exist', {
        BucketName: bucketName,
      });
    }
    return perform({ method, bucket, multipart, key, query: parameters, headers: all, payload, now });
  };

  const server = createServer((request, response) => {
    const method = request.method ?? '';
    hooks.onRequest?.();
    const fault = nextFault(method);
    request.on('error', () => {});
    if (fault === 'break') {
      requests.push(`${method} ${request.url} ${fault}`);
      request.once('data', () => request.socket.destroy());
      request.once('end', () => request.socket.destroy());
      return;
    }
    if (fault === 'reset') request.socket.destroy();
    if (fault === 'reset' || fault === 'hang') {
      requests.push(`${method} ${request.url} ${fault}`);
      return;
    }
    const outcome =
      fault === undefined || fault === 'etag' || isReadFault(fault) ? serve(request) : refuse(request, fault);
    outcome
      .catch((error: unknown): Answer => errorAnswer(error, request.url ?? '/'))
      .then((answer) => {
        requests.push(`${method} ${request.url} ${answer.status}`);
        const faulty = isReadFault(fault) ? damaged(answer, fault) : answer;
        const headers =
          fault === 'etag' ? { ...faulty.headers, etag: `"${'0'.repeat(32)}"` } : faulty.headers;
        // The clock of the server, by which the SDK corrects its own.
        send(response, method, { ...faulty, headers: { date: clock().toUTCString(), ...headers } });
      });
  });
  server.listen(options.port ?? 0, options.host ?? '127.0.0.1');
  await once(server, 'listening');
  const { address, port, family } = server.address() as AddressInfo;

  return {
    endpoint: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    objects(name) {
      const bucket = buckets.get(name);
      if (bucket === undefined) throw new Error(`There is no bucket ${name}.`);
      return bucket.objects;
    },
    faults: {
      failNext(count, fault, method) {
        planned = { left: count, fault, method };
      },
    },
    requests,
    get onRequest() {
      return hooks.onRequest;
    },
    set onRequest(hook) {
      hooks.onRequest = hook;
    },
    async stop() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function parseTarget(url: string): {
  path: string;
  query: [string, string][];
  bucketName: string;
  key: string;
} {
  const [path = '/', search = ''] = url.split(/\?(.*)/s, 2);
  try {
    const decode = (text: string) => decodeURIComponent(text.replaceAll('+', '%20'));
    const query = search
      .split('&')
      .filter((pair) => pair !== '')
      .map((pair): [string, string] => {
        const [name = '', value = ''] = pair.split(/=(.*)/s, 2);
        return [decode(name), decode(value)];
      });
    const [, bucketName = '', key = ''] = /^\/([^/]*)\/?(.*)$/s.exec(path) ?? [];
    return { path, query, bucketName: decodeURIComponent(bucketName), key: decodeURIComponent(key) };
  } catch {
    throw new S3Error(400, 'InvalidURI', "Couldn't parse the specified URI.");
  }
}

const joinHeaders = (request: IncomingMessage): Record<string, string> =>
  Object.fromEntries(
    Object.entries(request.headersDistinct).map(([name, values]) => [name, (values ?? []).join(',')]),
  );

async function readBody(
  request: IncomingMessage,
  headers: Readonly<Record<string, string>>,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > largestBody) throw new S3Error(400, 'EntityTooLarge', 'The proposed upload is too large.');
    chunks.push(chunk);
  }
  const counted = headers['content-length'] ?? headers['x-amz-decoded-content-length'];
  if (size > 0 && counted === undefined) {
    throw new S3Error(411, 'MissingContentLength', 'You must provide the Content-Length HTTP header.');
  }
  return Buffer.concat(chunks);
}

async function refuse(request: IncomingMessage, fault: number | 'slow' | string): Promise<Answer> {
  for await (const _ of request); // Answering before the body has come could break the connection instead.
  if (fault === 'slow') throw new S3Error(503, 'SlowDown', 'Please reduce your request rate.');
  if (fault === 'expired') throw new S3Error(400, 'ExpiredToken', 'The provided token has expired.');
  const status = Number(fault);
  const code =
    { 500: 'InternalError', 503: 'ServiceUnavailable', 403: 'AccessDenied', 507: 'InsufficientStorage' }[
      status
    ] ?? `Error${status}`;
  throw new S3Error(status, code, 'A failure on request of the test.');
}

function errorAnswer(error: unknown, url: string): Answer {
  const known = error instanceof S3Error ? error : new S3Error(500, 'InternalError', String(error));
  return {
    status: known.status,
    headers: { 'content-type': 'application/xml' },
    body: known.toXml(url.split('?')[0] ?? '/'),
  };
}

const isReadFault = (fault: Fault | undefined): fault is 'corrupt' | 'rot' =>
  fault === 'corrupt' || fault === 'rot';

function damaged(answer: Answer, fault: 'corrupt' | 'rot'): Answer {
  if (answer.status >= 300 || answer.body === undefined || answer.body.length === 0) return answer;
  const body = Buffer.from(answer.body);
  body[body.length >> 1] = (body[body.length >> 1] ?? 0) ^ 1;
  const headers = Object.entries(answer.headers ?? {});
  const kept = fault === 'rot' ? headers.filter(([name]) => !name.startsWith('x-amz-checksum-')) : headers;
  return { ...answer, body, headers: Object.fromEntries(kept) };
}

function send(response: ServerResponse, method: string, answer: Answer): void {
  const withBody = method !== 'HEAD' && answer.status !== 204;
  response.writeHead(answer.status, { 'x-amz-request-id': '0', ...answer.headers });
  response.end(withBody ? (answer.body ?? '') : undefined);
}
