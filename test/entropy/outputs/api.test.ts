import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { bytesOf, numbersAnswer, numbersRequest } from '../../../src/entropy/outputs/anu.ts';
import { type RandomServer, randomServer, type ServerOptions } from '../../../src/entropy/outputs/http.ts';
import { Turns } from '../../../src/entropy/outputs/turns.ts';
import type { EntropyStatus } from '../../../src/entropy/status.ts';
import { zeroizedFailure } from '../../../src/host/failure.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-api-'));
afterAll(() => rmSync(directory, { recursive: true }));
const servers: RandomServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

const status: EntropyStatus = {
  state: 'serving',
  sources: [],
  seeded: true,
  reseeds: 0,
  bytesOut: 0,
  credited: 448,
};

async function serve(
  options: ServerOptions = {},
  read = (out: Uint8Array): unknown => out.fill(0xab),
): Promise<number> {
  const server = await randomServer(
    { read: (out) => void read(out), status: () => status },
    { host: '127.0.0.1', port: 0 },
    new Turns(),
    options,
  );
  servers.push(server);
  return (server.address() as AddressInfo).port;
}
const base = (port: number): string => `http://127.0.0.1:${port}`;

describe('the numbers of the ANU QRNG API', () => {
  it.each([
    ['', { success: true, type: 'uint8', length: 1, data: [0xab] }],
    ['?length=3&type=uint8', { success: true, type: 'uint8', length: 3, data: [0xab, 0xab, 0xab] }],
    ['?length=2&type=uint16', { success: true, type: 'uint16', length: 2, data: [0xabab, 0xabab] }],
    ['?length=2&type=hex16', { success: true, type: 'hex16', length: 2, size: 1, data: ['abab', 'abab'] }],
    [
      '?length=1&type=hex16&size=3',
      { success: true, type: 'hex16', length: 1, size: 3, data: ['abababababab'] },
    ],
  ])('are answered to /api/v1/random%s', async (query, document) => {
    const response = await fetch(`${base(await serve())}/api/v1/random${query}`);
    expect(response.status).toBe(200);
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(await response.json()).toEqual(document);
  });

  it.each([
    '?length=0',
    '?length=1025',
    '?length=x',
    '?type=int8',
    '?size=11',
    '?bytes=3',
    '?length=1&length=2',
  ])('are refused to %s', async (query) => {
    const response = await fetch(`${base(await serve())}/api/v1/random${query}`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      code: 'request-invalid',
      remedy: expect.stringContaining('/api/v1/random'),
    });
  });

  it('use each random byte once, in order', () => {
    const types = fc.constantFrom('uint8', 'uint16', 'hex16');
    fc.assert(
      fc.property(
        types,
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 10 }),
        (type, length, size) => {
          const request = numbersRequest(
            new URLSearchParams({ type, length: String(length), size: String(size) }),
          );
          const bytes = Uint8Array.from({ length: bytesOf(request) }, (_, i) => (i * 7) & 0xff);
          const { data } = numbersAnswer(request, bytes) as { data: (number | string)[] };
          const width = type === 'uint8' ? 2 : 4;
          const text = data
            .map((item) => (typeof item === 'string' ? item : item.toString(16).padStart(width, '0')))
            .join('');
          expect(data).toHaveLength(length);
          expect(text).toBe(Buffer.from(bytes).toString('hex'));
        },
      ),
    );
  });

  it('are not answered by a zeroized node', async () => {
    const port = await serve({}, () => {
      throw zeroizedFailure('Random output');
    });
    expect((await fetch(`${base(port)}/api/v1/random`)).status).toBe(503);
  });
});

describe('the HTTP output beyond bytes', () => {
  it('tells its sources and its pool', async () => {
    const url = base(await serve());
    expect(await (await fetch(`${url}/sources`)).json()).toEqual([]);
    expect(await (await fetch(`${url}/pool/status`)).json()).toEqual(status);
  });

  it('asks for its bearer token everywhere but at /health', async () => {
    const url = base(await serve({ token: 'correct horse battery' }));
    const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });
    for (const path of ['/random', '/api/v1/random', '/sources', '/pool/status', '/metrics', '/nothing']) {
      expect((await fetch(url + path)).status).toBe(401);
      expect((await fetch(url + path, bearer('correct-horse-batterz'))).status).toBe(401);
    }
    expect((await fetch(`${url}/random`, bearer('correct horse battery'))).status).toBe(401);
    expect((await fetch(`${url}/health`)).status).toBe(200);
    const other = base(await serve({ token: 'correct-horse-battery' }));
    expect((await fetch(`${other}/random`, bearer('correct-horse-battery'))).status).toBe(200);
  });

  it('lets no page read its answers, unless told which', async () => {
    const closed = await fetch(`${base(await serve())}/random`);
    expect(closed.headers.get('access-control-allow-origin')).toBeNull();
    const url = base(await serve({ origin: 'https://app.example.org' }));
    const answer = await fetch(`${url}/random`);
    expect(answer.headers.get('access-control-allow-origin')).toBe('https://app.example.org');
    expect(answer.headers.get('vary')).toBe('Origin');
    const before = await fetch(`${url}/random`, { method: 'OPTIONS' });
    expect(before.status).toBe(204);
    expect(before.headers.get('access-control-allow-headers')).toBe('Authorization');
  });

  it('serves over TLS, and resets its connections there too', async () => {
    const [cert, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-keyout',
        key,
        '-out',
        cert,
        '-days',
        '2',
        '-subj',
        '/CN=localhost',
      ],
      { stdio: 'ignore' },
    );
    const port = await serve({ tls: { cert: readFileSync(cert), key: readFileSync(key) } });
    const request = tlsRequest({
      port,
      host: '127.0.0.1',
      path: '/random?bytes=100000',
      ca: readFileSync(cert),
      servername: 'localhost',
    });
    request.end();
    const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
    let length = 0;
    for await (const part of response) length += (part as Buffer).length;
    expect(length).toBe(100_000);
  });

  it('keeps one client from taking all connections', async () => {
    const port = await serve({ maxConnections: 100, maxPerClient: 3 });
    const sockets = Array.from({ length: 5 }, () => connect(port, '127.0.0.1'));
    for (const socket of sockets) socket.on('error', () => {});
    await Promise.all(sockets.slice(3).map((socket) => once(socket, 'close')));
    expect(sockets.slice(0, 3).every((socket) => !socket.destroyed)).toBe(true);
    for (const socket of sockets) socket.destroy();
  });
});

describe('many clients', () => {
  it('500 at once are all answered', { timeout: 30_000 }, async () => {
    const port = await serve({ maxConnections: 1024 });
    const ask = (): Promise<number> =>
      new Promise((resolve, reject) => {
        get({ port, host: '127.0.0.1', path: '/random?bytes=1000', agent: false }, (response) => {
          let bytes = 0;
          response.on('data', (part: Buffer) => {
            bytes += part.length;
          });
          response.on('end', () => resolve(bytes));
          response.on('error', reject);
        }).on('error', reject);
      });
    const answers = await Promise.all(Array.from({ length: 500 }, ask));
    expect(answers.every((bytes) => bytes === 1000)).toBe(true);
  });

  it('10,000 in turn leave nothing behind', { timeout: 120_000 }, async () => {
    const port = await serve();
    const agent = new Agent({ keepAlive: false });
    for (let n = 0; n < 10_000; n++) {
      const bytes = await new Promise<number>((resolve, reject) => {
        get({ port, host: '127.0.0.1', path: '/random', agent }, (response) => {
          response.on('data', (part: Buffer) => resolve(part.length));
          response.on('error', reject);
        }).on('error', reject);
      });
      expect(bytes).toBe(32);
    }
    await expect
      .poll(() => new Promise((resolve) => servers[0]?.getConnections((_, count) => resolve(count))))
      .toBe(0);
  });
});
