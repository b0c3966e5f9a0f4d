// Random bytes over HTTP: GET /random?bytes=N, /health, /metrics. Refusals are JSON {code, message, remedy}; nothing is
// answered 200 that is not fresh output.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Failure, reasonOf } from '../../host/failure.ts';
import type { EntropyStatus } from '../status.ts';
import { metricsText } from './metrics.ts';

/** Most bytes of one answer. */
export const maxAnswer = 16 << 20;
const defaultAnswer = 32;
const blockLength = 64 << 10;
/** How often an answer that waits for a slow reader looks for a zeroize. */
const watchMilliseconds = 100;

export interface RandomSupply {
  /** As `EntropyPool.read`. */
  read(out: Uint8Array): void;
  status(): EntropyStatus;
}

/**
 * Resolves when the server listens. Close it with `close` and `closeAllConnections`.
 * @throws Failure `listen-failed`.
 */
export function randomServer(
  supply: RandomSupply,
  address: { readonly host: string; readonly port: number },
): Promise<Server> {
  const server = createServer((request, response) => {
    answer(supply, request, response).catch((error: unknown) => refuse(response, error));
  });
  const { promise, resolve, reject } = Promise.withResolvers<Server>();
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

async function answer(
  supply: RandomSupply,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD');
    return sendJson(response, 405, { code: 'method-unknown', message: 'Use GET.' });
  }
  const url = new URL(request.url ?? '/', 'http://node');
  switch (url.pathname) {
    case '/random':
      return sendRandom(supply, response, requestedBytes(url.searchParams), request.method === 'HEAD');
    case '/health':
      return sendHealth(supply, response);
    case '/metrics':
      response.setHeader('Content-Type', 'text/plain; version=0.0.4; charset=utf-8');
      response.end(metricsText(supply.status()));
      return;
    default:
      return sendJson(response, 404, {
        code: 'path-unknown',
        message: `There is nothing at ${url.pathname}.`,
        remedy: 'Use /random?bytes=N, /health or /metrics.',
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

/** Block by block, each read only when the last has left, so that a zeroize in the middle cuts the answer short. */
async function sendRandom(
  supply: RandomSupply,
  response: ServerResponse,
  bytes: number,
  headOnly: boolean,
): Promise<void> {
  const block = new Uint8Array(Math.min(bytes, blockLength));
  const watch = setInterval(() => {
    if (supply.status().state === 'zeroized') response.destroy();
  }, watchMilliseconds);
  try {
    supply.read(block);
    response.setHeader('Content-Type', 'application/octet-stream');
    response.setHeader('Content-Length', bytes);
    response.setHeader('Cache-Control', 'no-store');
    if (headOnly) {
      response.end();
      return;
    }
    for (let sent = 0; sent < bytes && !response.destroyed; ) {
      if (sent > 0) supply.read(block);
      const part = block.subarray(0, Math.min(block.length, bytes - sent));
      await written(response, part);
      sent += part.length;
    }
    response.end();
  } finally {
    clearInterval(watch);
    block.fill(0);
  }
}

/** Resolves when the block has been handed to the kernel, or the reader has gone. */
function written(response: ServerResponse, part: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    response.once('close', resolve);
    response.write(part, () => {
      response.off('close', resolve);
      resolve();
    });
  });
}

function sendHealth(supply: RandomSupply, response: ServerResponse): void {
  const status = supply.status();
  const well = status.state === 'serving' || status.state === 'paused';
  sendJson(response, well ? 200 : 503, status);
}

function refuse(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.removeHeader('Content-Length');
  if (!(error instanceof Failure)) {
    sendJson(response, 500, { code: 'unexpected', message: reasonOf(error) });
    return;
  }
  sendJson(response, error.code === 'request-invalid' ? 400 : 503, error);
}

function sendJson(response: ServerResponse, status: number, document: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(`${JSON.stringify(document)}\n`);
}
