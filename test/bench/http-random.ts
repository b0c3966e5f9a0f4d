// Requests for 32 random bytes a second over kept connections, against a bare node:http server that sends 32 bytes that it has at hand.
// Both are processes of their own; the client speaks HTTP by hand, so that it is not what is measured.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { resolve } from 'node:path';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { Failure } from '../../src/host/failure.ts';
import { type Benchmark, judge, median, type Progress, words } from './benchmark.ts';
import { scratchDirectory } from './scratch.ts';

const name = 'http-random';
const target = { atLeast: 0.5 } as const;
const launcher = resolve(import.meta.dirname, '../../scripts/esoteric-appliance');
const bare = `
const { createServer } = require('node:http');
const bytes = require('node:crypto').randomBytes(32);
const server = createServer((request, response) => {
  response.setHeader('Content-Type', 'application/octet-stream');
  response.setHeader('Content-Length', 32);
  response.setHeader('Cache-Control', 'no-store');
  response.end(bytes);
});
server.listen(0, '127.0.0.1', () => process.stderr.write('Serving on http://127.0.0.1:' + server.address().port + '/.\\n'));
`;
const request = 'GET /random HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n';
const bodyLength = 32;

export const httpRandom: Benchmark = {
  name,
  target: words(target),
  needs: { programs: ['setpriv'] },
  run: (progress) => measureHttp({ rounds: 9, milliseconds: 500, connections: 16 }, progress),
};

export async function measureHttp(
  load: { readonly rounds: number; readonly milliseconds: number; readonly connections: number },
  { signal, say }: Progress,
): Promise<BenchResult> {
  using scratch = scratchDirectory();
  const state = ['--no-tpm', '--no-sigstore', '--state-dir', scratch.path];
  await using ours = await serving([launcher, 'server', '--port', '0', ...state]);
  await using theirs = await serving([process.execPath, '-e', bare]);
  const rates = { ours: [] as number[], theirs: [] as number[] };
  for (let round = 0; round <= load.rounds; round++) {
    say(`round ${round} of ${load.rounds}`);
    for (const [who, { port }] of [
      ['ours', ours],
      ['theirs', theirs],
    ] as const) {
      const rate = await requestsPerSecond(port, load);
      if (round > 0) rates[who].push(rate);
    }
    signal.throwIfAborted();
  }
  return judge({
    name,
    value: median(rates.ours),
    unit: 'requests/s',
    reference: { name: 'bare node:http', value: median(rates.theirs) },
    target,
  });
}

async function requestsPerSecond(
  port: number,
  { milliseconds, connections }: { readonly milliseconds: number; readonly connections: number },
): Promise<number> {
  const sockets = await Promise.all(Array.from({ length: connections }, () => connected(port)));
  let answered = 0;
  const began = performance.now();
  const ends = began + milliseconds;
  await Promise.all(
    sockets.map(async (socket) => {
      while (performance.now() < ends) {
        await exchange(socket);
        answered += 1;
      }
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  for (const socket of sockets) socket.destroy();
  return answered / seconds;
}

async function connected(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.setNoDelay();
  await once(socket, 'connect');
  return socket;
}

/** One request and its whole answer. */
function exchange(socket: Socket): Promise<void> {
  const { promise, resolve: settle, reject } = Promise.withResolvers<void>();
  let got: Buffer = Buffer.alloc(0);
  const onData = (part: Buffer): void => {
    got = got.length === 0 ? part : Buffer.concat([got, part]);
    const head = got.indexOf('\r\n\r\n');
    if (head === -1 || got.length < head + 4 + bodyLength) return;
    socket.off('data', onData);
    socket.off('close', onClose);
    if (got.toString('latin1', 0, 15) === 'HTTP/1.1 200 OK') settle();
    else reject(new Failure('program-failed', `It answered ${got.toString('latin1', 0, head)}`));
  };
  const onClose = (): void => reject(new Failure('program-failed', 'The server closed the connection.'));
  socket.on('data', onData);
  socket.once('close', onClose);
  socket.write(request);
  return promise;
}

/** A server process that says where it listens; ends with this one, however that ends. */
async function serving(command: readonly string[]): Promise<AsyncDisposable & { readonly port: number }> {
  const child: ChildProcess = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const { promise, resolve: settle, reject } = Promise.withResolvers<number>();
  let said = '';
  child.stderr?.on('data', (part: Buffer) => {
    said += part.toString();
    const port = /Serving on http:\/\/127\.0\.0\.1:(\d+)\//.exec(said)?.[1];
    if (port !== undefined) settle(Number(port));
  });
  child.once('exit', () => reject(new Failure('program-failed', `A server ended: ${said}`)));
  return {
    port: await promise,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}
