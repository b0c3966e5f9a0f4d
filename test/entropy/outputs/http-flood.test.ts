import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { maxAnswer, type RandomServer, randomServer } from '../../../src/entropy/outputs/http.ts';
import { Turns } from '../../../src/entropy/outputs/turns.ts';

/** A missed-heartbeat limit is a second or more; a healthy loop is two orders below this. */
const longestStall = 500;
const oneRequest = 'GET /random?bytes=65536 HTTP/1.1\r\nHost: a\r\n\r\n';

let server: RandomServer;
let port: number;
let turns: Turns;
/** Bytes the supply of this test's server gave. */
let made: { bytes: number };
let clients: Socket[];

beforeEach(async () => {
  const count = { bytes: 0 };
  made = count;
  turns = new Turns();
  clients = [];
  server = await randomServer(
    {
      read: (out) => {
        count.bytes += out.length;
        randomFillSync(out);
      },
      status: () => ({ state: 'serving', sources: [], seeded: true, reseeds: 0, bytesOut: 0, credited: 0 }),
    },
    { host: '127.0.0.1', port: 0 },
    turns,
  );
  port = (server.address() as AddressInfo).port;
});

afterEach(async () => {
  for (const client of clients) client.destroy();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

async function client(): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  clients.push(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

async function manyClients(count: number): Promise<Socket[]> {
  return await Promise.all(Array.from({ length: count }, client));
}

/** All that comes until the connection ends, and how it ended. */
function rest(socket: Socket): Promise<{ bytes: Buffer; error: string | undefined }> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    let error: string | undefined;
    socket.on('data', (part: Buffer) => parts.push(part));
    socket.on('error', (cause: NodeJS.ErrnoException) => {
      error = cause.code;
    });
    socket.on('close', () => resolve({ bytes: Buffer.concat(parts), error }));
  });
}

/** Milliseconds of the longest turn of the event loop while `work` goes on. */
async function stallDuring(work: () => Promise<void>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  await sleep(50);
  delay.reset();
  await work();
  delay.disable();
  return delay.max / 1e6;
}

const status = (text: Buffer): string => text.toString('latin1').split('\r\n', 1)[0] ?? '';

describe('the HTTP output under a flood', () => {
  it('generates nothing for sixty connections that pipeline 64 KiB of requests each', async () => {
    const flood = Buffer.from(oneRequest.repeat(Math.floor(65_536 / oneRequest.length)));
    const sockets = await manyClients(60);
    const stall = await stallDuring(async () => {
      for (const socket of sockets) socket.write(flood);
      await sleep(1000);
    });
    expect(stall).toBeLessThan(longestStall);
    expect(made.bytes).toBe(0);
  });

  it('keeps its event loop turning while sixty readers ask for all they may at once', async () => {
    const sockets = await manyClients(60);
    const stall = await stallDuring(async () => {
      for (const socket of sockets) {
        socket.resume();
        socket.write(`GET /random?bytes=${maxAnswer} HTTP/1.1\r\nHost: a\r\n\r\n`);
      }
      await sleep(1000);
    });
    expect(stall).toBeLessThan(longestStall);
    expect(made.bytes).toBeGreaterThan(0);
  });

  it('answers 400 with a remedy to two requests in one piece', async () => {
    const socket = await client();
    socket.write(oneRequest.repeat(2));
    const { bytes } = await rest(socket);
    expect(status(bytes)).toBe('HTTP/1.1 400 Bad Request');
    expect(bytes.toString()).toContain('"remedy":"Send the next request when');
    expect(made.bytes).toBe(0);
  });

  it('resets a connection whose second request comes before the first is answered', async () => {
    const socket = await client();
    socket.write(`GET /random?bytes=${maxAnswer} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await once(socket, 'data');
    socket.write(oneRequest);
    expect((await rest(socket)).bytes.length).toBeLessThan(maxAnswer);
  });

  it('resets a connection that hides a second request behind a split end of the first', async () => {
    const socket = await client();
    socket.setNoDelay();
    socket.write(oneRequest.slice(0, -1));
    await sleep(50);
    socket.write(`\n${oneRequest}`);
    expect((await rest(socket)).bytes.length).toBe(0);
  });

  it('answers one request after the other on a kept connection', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = (): Promise<number> =>
      new Promise((resolve, reject) => {
        request({ port, host: '127.0.0.1', path: '/random?bytes=70000', agent }, (response) => {
          let bytes = 0;
          response.on('data', (part: Buffer) => {
            bytes += part.length;
          });
          response.on('end', () => resolve(bytes));
        })
          .on('error', reject)
          .end();
      });
    let connections = 0;
    server.on('connection', () => connections++);
    for (let i = 0; i < 200; i++) expect(await ask()).toBe(70_000);
    expect(connections).toBe(1);
    agent.destroy();
  });

  it('answers 503 with Retry-After when too many wait before, and 200 once they have had their turn', async () => {
    const others = Array.from({ length: 20_000 }, () => turns.take(65_536));
    const url = `http://127.0.0.1:${port}/random`;
    const refused = await fetch(url);
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBe('1');
    expect(await refused.json()).toMatchObject({ code: 'output-busy', remedy: 'Ask again in 1 s.' });
    await Promise.all(others);
    expect((await fetch(url)).status).toBe(200);
  });

  it('closes the sixty-fifth connection', async () => {
    await manyClients(64);
    const { bytes } = await rest(await client());
    expect(bytes.length).toBe(0);
    expect(clients.slice(0, 64).every((socket) => !socket.destroyed)).toBe(true);
  });
});

describe('closeNow', () => {
  it('resets a stalled reader, so that what the kernel had still to send never leaves, and keeps listening', async () => {
    const socket = await client();
    socket.pause();
    socket.write(`GET /random?bytes=${maxAnswer} HTTP/1.1\r\nHost: a\r\n\r\n`);
    for (let before = -1; before !== made.bytes; ) {
      before = made.bytes;
      await sleep(150);
    }
    expect(made.bytes).toBeLessThan(maxAnswer);
    server.closeNow();
    await sleep(50);
    const ended = rest(socket);
    socket.resume();
    const { bytes, error } = await ended;
    expect(error).toBe('ECONNRESET');
    expect(bytes.length).toBeLessThan(made.bytes - (256 << 10));
    expect((await fetch(`http://127.0.0.1:${port}/random`)).status).toBe(200);
  });
});

describe('the turns of the readers', () => {
  it('let at most 64 KiB be generated in one turn of the event loop, first come first served', async () => {
    const order: string[] = [];
    const take = async (name: string, bytes: number): Promise<void> => {
      await turns.take(bytes);
      order.push(name);
    };
    const all = [take('a', 65_536), take('b', 32), take('c', 32), take('d', 65_536)];
    expect(turns.waiting).toBe(4);
    const seen: string[] = [];
    while (turns.waiting > 0) {
      await new Promise(setImmediate);
      seen.push(order.join(''));
    }
    await Promise.all(all);
    expect(order.join('')).toBe('abcd');
    expect(new Set(seen)).toEqual(new Set(['a', 'abc', 'abcd']));
  });
});
