// `device` and `server`: a pool of this process, given out at a path or over HTTP until told to stop.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { serveFifo } from '../entropy/outputs/fifo.ts';
import type { ServerOptions } from '../entropy/outputs/http.ts';
import { Turns } from '../entropy/outputs/turns.ts';
import { exitStatus, Failure, reasonOf, zeroizedFailure } from '../host/failure.ts';
import { isLoopback } from '../host/loopback.ts';
import type { Config } from './config.ts';
import { withOwnPool } from './entropy-process.ts';

export interface DeviceRequest {
  readonly path: string;
  readonly bufferSize?: number | undefined;
  readonly sources?: readonly string[] | undefined;
  readonly signal: AbortSignal;
  readonly onReady: () => void;
}

/** Returns the bytes written. @throws Failure `zeroized` (status 4) when the node of this state directory is zeroized meanwhile. */
export function serveDevice(config: Config, request: DeviceRequest): Promise<number> {
  const { path, bufferSize, sources, signal, onReady } = request;
  return withOwnPool(config, sources, ({ pool }) =>
    serveFifo(path, (out) => pool.read(out), { bufferSize, signal, onReady }),
  );
}

export interface ServerRequest {
  readonly host: string;
  readonly port: number;
  readonly sources?: readonly string[] | undefined;
  readonly tlsCert?: string | undefined;
  readonly tlsKey?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly origin?: string | undefined;
  readonly signal: AbortSignal;
  readonly onReady: (url: string) => void;
}

const manyConnections = 1024;
/** Beyond the loopback, where an address is a client. */
const perClient = 128;
const leastToken = 16;

/** @throws Failure `server-exposed`, `listen-failed`, `zeroized`. */
export async function serveHttp(config: Config, request: ServerRequest): Promise<void> {
  const options = serverOptions(request);
  const { randomServer } = await import('../entropy/outputs/http.ts');
  await withOwnPool(config, request.sources, async ({ pool, arena }) => {
    const server = await randomServer(pool, request, new Turns(), options);
    const zeroized = Promise.withResolvers<'zeroized'>();
    const watch = setInterval(() => {
      if (!arena.zeroized) return;
      server.closeNow();
      zeroized.resolve('zeroized');
    }, 100);
    try {
      request.onReady(urlOf(server.address() as AddressInfo, options.tls !== undefined));
      const stopped = request.signal.aborted ? Promise.resolve() : once(request.signal, 'abort');
      if ((await Promise.race([stopped, zeroized.promise])) === 'zeroized')
        throw zeroizedFailure('Random output');
    } finally {
      clearInterval(watch);
      server.closeAllConnections();
      server.close();
    }
  });
}

/** What listens elsewhere than on the loopback has TLS and a token, or is refused. */
function serverOptions(request: ServerRequest): ServerOptions {
  const { host, tlsCert, tlsKey, tokenFile, origin } = request;
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw usage('--tls-cert and --tls-key belong together.');
  const token = tokenFile === undefined ? undefined : readText(tokenFile).trim();
  if (token !== undefined && token.length < leastToken)
    throw usage(`The token in ${tokenFile} has fewer than ${leastToken} characters.`);
  if (!isLoopback(host) && (tlsCert === undefined || token === undefined)) {
    throw new Failure(
      'server-exposed',
      `${host} is not the loopback, and random bytes would go there in clear.`,
      {
        remedy: 'Give --tls-cert, --tls-key and --token-file, or listen on 127.0.0.1.',
        status: exitStatus.usage,
      },
    );
  }
  return {
    maxConnections: manyConnections,
    ...(isLoopback(host) ? {} : { maxPerClient: perClient }),
    ...(tlsCert === undefined || tlsKey === undefined
      ? {}
      : { tls: { cert: readText(tlsCert), key: readText(tlsKey) } }),
    ...(token === undefined ? {} : { token }),
    ...(origin === undefined ? {} : { origin }),
  };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw usage(`${path} cannot be read: ${reasonOf(error)}.`);
  }
}

const usage = (message: string): Failure => new Failure('usage', message, { status: exitStatus.usage });

function urlOf({ address, port, family }: AddressInfo, tls: boolean): string {
  return `${tls ? 'https' : 'http'}://${family === 'IPv6' ? `[${address}]` : address}:${port}/`;
}
