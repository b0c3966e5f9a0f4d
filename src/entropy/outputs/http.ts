// Random bytes over HTTP: GET /random?bytes=N, /api/v1/random (numbers), /health, /sources, /pool/status, /metrics. Refusals are JSON
// {code, message, remedy}; nothing is answered 200 that is not fresh output.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { Failure, reasonOf } from '../../host/failure.ts';
import type { EntropyStatus } from '../status.ts';
import { allowOrigin, authorized, digestOfToken, limitPerClient } from './access.ts';
import { bytesOf, type NumbersRequest, numbersAnswer, numbersRequest } from './anu.ts';
import { Connections } from './connections.ts';
import { metricsText } from './metrics.ts';
import { Turns, turnLength } from './turns.ts';

/** Most bytes of one answer. */
export const maxAnswer = 16 << 20;
const defaultAnswer = 32;
/** Connections of one server, unless told; more are closed as they come. */
const defaultConnections = 64;
/** Bytes asked for and not yet generated; a request that finds so many before it is told to come back. */
const maxWaiting = 48 * turnLength;
const retrySeconds = 1;
/** Milliseconds, as node:http names them. `silence` is how long a reader may take nothing. */
const limits = { headers: 5_000, request: 10_000, keepAlive: 5_000, silence: 30_000, check: 1_000 } as const;
const maxHeaderSize = 8 << 10;
/** How often an answer that waits for a slow reader looks for a zeroize. */
const watchMilliseconds = 100;

export interface RandomSupply {
  /** As `EntropyPool.read`. */
  read(out: Uint8Array): void;
  status(): EntropyStatus;
}

export interface ServerOptions {
  /** Certificate chain and key, PEM. Without it: plain HTTP. */
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer };
  /** Asked for in `Authorization: Bearer`, at every path but /health. */
  readonly token?: string;
  /** Of pages whose scripts may read the answers; `*` for any. */
  readonly origin?: string;
  readonly maxConnections?: number;
  /** Of one client address; no limit of its own unless told. */
  readonly maxPerClient?: number;
}

export interface RandomServer extends Server {
  /** Resets every open connection, so that nothing of it still leaves; the server keeps listening, to say why it refuses. */
  closeNow(): void;
}

/**
 * Resolves when the server listens. Close it with `close` and `closeAllConnections`. Servers of one supply share `turns`.
 * @throws Failure `listen-failed`.
 */
export function randomServer(
  supply: RandomSupply,
  address: { readonly host: string; readonly port: number },
  turns: Turns = new Turns(),
  options: ServerOptions = {},
): Promise<RandomServer> {
  const settings = {
    headersTimeout: limits.headers,
    requestTimeout: limits.request,
    keepAliveTimeout: limits.keepAlive,
    connectionsCheckingInterval: limits.check,
    maxHeaderSize,
  };
  const { tls, token } = options;
  const plain: Server = tls === undefined ? createServer(settings) : createTlsServer({ ...settings, ...tls });
  plain.maxConnections = options.maxConnections ?? defaultConnections;
  plain.timeout = limits.silence;
  if (options.maxPerClient !== undefined) limitPerClient(plain, options.maxPerClient);
  const connections = new Connections(plain, tls === undefined ? 'connection' : 'secureConnection');
  const tokenDigest = token === undefined ? undefined : digestOfToken(token);
  const server = Object.assign(plain, { closeNow: () => connections.resetAll() });
  server.on('request', (request, response) => {
    if (!connections.begin(request.socket, response)) return;
    answer({ supply, turns, tokenDigest, origin: options.origin }, request, response).catch(
      (error: unknown) => refuse(response, error),
    );
  });
  const { promise, resolve, reject } = Promise.withResolvers<RandomServer>();
  server.once('error', (error) => {
    const where = `${address.host}:${address.port}`;
    reject(
      new Failure('listen-failed', `Random output cannot be served on ${where}: ${reasonOf(error)}.`, {
        remedy: 'Choose an address of this machine and a free port.',
        cause: error,
      }),
    );
  });
  server.listen(address.port, address.host, () => resolve(server));
  return promise;
}

interface Output {
  readonly supply: RandomSupply;
  readonly turns: Turns;
  readonly tokenDigest: Uint8Array | undefined;
  readonly origin: string | undefined;
}

async function answer(output: Output, request: IncomingMessage, response: ServerResponse): Promise<void> {
  await null; // First the parser has its say about all that came with this request.
  if (response.destroyed) return;
  if (allowOrigin(request, response, output.origin)) return;
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD');
    return sendJson(response, 405, { code: 'method-unknown', message: 'Use GET.' });
  }
  const [pathname = '/', query = ''] = (request.url ?? '/').split('?', 2);
  const parameters = new URLSearchParams(query);
  if (pathname !== '/health' && !authorized(request, output.tokenDigest)) {
    response.setHeader('WWW-Authenticate', 'Bearer');
    return sendJson(response, 401, {
      code: 'unauthorized',
      message: 'A bearer token is asked for here.',
      remedy: 'Send it as `Authorization: Bearer TOKEN`.',
    });
  }
  switch (pathname) {
    case '/random':
      return sendRandom(output, response, requestedBytes(parameters), request.method === 'HEAD');
    case '/api/v1/random':
      return sendNumbers(output, response, numbersRequest(parameters));
    case '/health':
      return sendHealth(output.supply, response);
    case '/sources':
      return sendJson(response, 200, output.supply.status().sources);
    case '/pool/status':
      return sendJson(response, 200, output.supply.status());
    case '/metrics':
      response.setHeader('Content-Type', 'text/plain; version=0.0.4; charset=utf-8');
      response.end(metricsText(output.supply.status()));
      return;
    default:
      return sendJson(response, 404, {
        code: 'path-unknown',
        message: `There is nothing at ${pathname}.`,
        remedy: 'Use /random?bytes=N, /api/v1/random, /health, /sources, /pool/status or /metrics.',
      });
  }
}

function requestedBytes(query: URLSearchParams): number {
  const unknown = [...query.keys()].find((key) => key !== 'bytes');
  const text = query.get('bytes') ?? String(defaultAnswer);
  const bytes = /^[0-9]{1,9}$/.test(text) ? Number(text) : -1;
  if (unknown === undefined && query.getAll('bytes').length <= 1 && bytes >= 1 && bytes <= maxAnswer)
    return bytes;
  throw new Failure(
    'request-invalid',
    unknown === undefined ? '`bytes` is not a number in range.' : '`bytes` is the only parameter.',
    { remedy: `Ask for /random?bytes=N with N from 1 to ${maxAnswer}.` },
  );
}

/** At once where it fits into this turn of the event loop, as most do. */
function sendRandom(
  output: Output,
  response: ServerResponse,
  bytes: number,
  headOnly: boolean,
): Promise<void> | void {
  refuseIfBusy(output.turns);
  if (bytes > turnLength || headOnly || !output.turns.tryTake(bytes)) {
    return sendBlocks(output, response, bytes, headOnly);
  }
  const block = new Uint8Array(bytes);
  output.supply.read(block);
  response.once('close', () => block.fill(0));
  response.writeHead(200, headOf(bytes));
  response.end(block);
}

const headOf = (bytes: number) => ({
  'Content-Type': 'application/octet-stream',
  'Content-Length': bytes,
  'Cache-Control': 'no-store',
});

/** Block by block, each read only when the last has left, so that a zeroize in the middle cuts the answer short. */
async function sendBlocks(
  { supply, turns }: Output,
  response: ServerResponse,
  bytes: number,
  headOnly: boolean,
): Promise<void> {
  const block = new Uint8Array(Math.min(bytes, turnLength));
  let watch: NodeJS.Timeout | undefined;
  try {
    for (let sent = 0; sent < bytes; ) {
      const part = block.subarray(0, Math.min(block.length, bytes - sent));
      if (!turns.tryTake(part.length)) await turns.take(part.length);
      if (response.destroyed) return;
      supply.read(part);
      if (sent === 0) response.writeHead(200, headOf(bytes));
      if (headOnly) {
        response.end();
        return;
      }
      sent += part.length;
      if (sent < bytes) watch ??= setInterval(() => cutIfZeroized(supply, response), watchMilliseconds);
      await written(response, part, sent === bytes);
    }
  } finally {
    clearInterval(watch);
    block.fill(0);
  }
}

/** Numbers of one small block, as JSON. */
async function sendNumbers(
  { supply, turns }: Output,
  response: ServerResponse,
  request: NumbersRequest,
): Promise<void> {
  refuseIfBusy(turns);
  const bytes = new Uint8Array(bytesOf(request));
  if (!turns.tryTake(bytes.length)) await turns.take(bytes.length);
  if (response.destroyed) return;
  try {
    supply.read(bytes);
    sendJson(response, 200, numbersAnswer(request, bytes));
  } finally {
    bytes.fill(0);
  }
}

function refuseIfBusy(turns: Turns): void {
  if (turns.waitingBytes < maxWaiting) return;
  throw new Failure('output-busy', 'Too many requests wait for random output.', {
    remedy: `Ask again in ${retrySeconds} s.`,
  });
}

function cutIfZeroized(supply: RandomSupply, response: ServerResponse): void {
  if (supply.status().state === 'zeroized') cut(response);
}

/** Resolves when the block has been handed to the kernel, or the reader has gone. */
function written(response: ServerResponse, part: Uint8Array, last: boolean): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('close', done);
      resolve();
    };
    response.once('close', done);
    if (last) response.end(part, done);
    else response.write(part, done);
  });
}

/** Nothing more of the answer leaves, what the kernel still holds included. */
function cut(response: ServerResponse): void {
  response.socket?.resetAndDestroy();
  response.destroy();
}

function sendHealth(supply: RandomSupply, response: ServerResponse): void {
  const status = supply.status();
  const well = status.state === 'serving' || status.state === 'paused';
  sendJson(response, well ? 200 : 503, status);
}

function refuse(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    cut(response);
    return;
  }
  if (!(error instanceof Failure)) {
    sendJson(response, 500, { code: 'unexpected', message: reasonOf(error) });
    return;
  }
  if (error.code === 'output-busy') response.setHeader('Retry-After', retrySeconds);
  sendJson(response, error.code === 'request-invalid' ? 400 : 503, error);
}

function sendJson(response: ServerResponse, status: number, document: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(`${JSON.stringify(document)}\n`);
}
