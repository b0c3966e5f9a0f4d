import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { maxAnswer, type RandomSupply, randomServer } from '../../../src/entropy/outputs/http.ts';
import type { EntropyStatus, PoolState } from '../../../src/entropy/status.ts';
import { Failure, zeroizedFailure } from '../../../src/host/failure.ts';

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

function status(state: PoolState): EntropyStatus {
  const source = {
    name: 'clock-jitter',
    family: 'timing',
    physical: 'jitter',
    state: 'healthy',
    credit: 0.1,
    assessed: 'brief',
    samples: 12,
    failures: 1,
    available: true,
  } as const;
  return { state, sources: [source], seeded: true, reseeds: 2, bytesOut: 64, credited: 500 };
}

async function serve(supply: Partial<RandomSupply>): Promise<string> {
  const server = await randomServer(
    { read: (out) => out.fill(5), status: () => status('serving'), ...supply },
    { host: '127.0.0.1', port: 0 },
  );
  servers.push(server);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe('the HTTP output', () => {
  it('answers /random with as many bytes as asked', async () => {
    const base = await serve({});
    for (const [query, length] of [
      ['', 32],
      ['?bytes=1', 1],
      ['?bytes=65536', 65_536],
      ['?bytes=1000003', 1_000_003],
    ] as const) {
      const response = await fetch(`${base}/random${query}`);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toBe('application/octet-stream');
      expect(response.headers.get('cache-control')).toBe('no-store');
      const body = new Uint8Array(await response.arrayBuffer());
      expect(body.length).toBe(length);
      expect(body.every((byte) => byte === 5)).toBe(true);
    }
    const head = await fetch(`${base}/random?bytes=7`, { method: 'HEAD' });
    expect(head.headers.get('content-length')).toBe('7');
  });

  it.each([
    '?bytes=0',
    '?bytes=-1',
    '?bytes=x',
    '?bytes=1.5',
    '?bytes=',
    `?bytes=${maxAnswer + 1}`,
    '?byte=3',
    '?bytes=1&bytes=2',
  ])('answers 400 with a remedy to %s', async (query) => {
    const response = await fetch(`${await serve({})}/random${query}`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      code: 'request-invalid',
      message: expect.any(String),
      remedy: expect.stringContaining('/random?bytes=N'),
    });
  });

  it('answers 503 with the reason before the seed and after a zeroize', async () => {
    const failures = [
      new Failure('entropy-not-ready', 'Not yet.', { remedy: 'Wait.' }),
      zeroizedFailure('Random output'),
    ];
    for (const failure of failures) {
      const base = await serve({
        read: () => {
          throw failure;
        },
      });
      const response = await fetch(`${base}/random`);
      expect(response.status).toBe(503);
      expect(await response.json()).toMatchObject({
        code: failure.code,
        message: failure.message,
        remedy: failure.remedy,
      });
    }
  });

  it('cuts an answer short when a zeroize comes in the middle', async () => {
    let blocks = 0;
    const base = await serve({
      read: (out) => {
        if (++blocks === 3) throw zeroizedFailure('Random output');
        out.fill(5);
      },
    });
    await expect(
      fetch(`${base}/random?bytes=1000000`).then((response) => response.arrayBuffer()),
    ).rejects.toThrow();
    expect(blocks).toBe(3);
  });

  it('cuts an answer to a reader that has stopped reading', async () => {
    let zeroized = false;
    const base = await serve({ status: () => status(zeroized ? 'zeroized' : 'serving') });
    const response = await fetch(`${base}/random?bytes=${maxAnswer}`);
    const reader = response.body?.getReader();
    await reader?.read();
    await new Promise((resolve) => setTimeout(resolve, 100));
    zeroized = true;
    await new Promise((resolve) => setTimeout(resolve, 250));
    const rest = async (): Promise<void> => {
      for (let part = await reader?.read(); part?.done === false; part = await reader?.read());
    };
    await expect(rest()).rejects.toThrow();
  });

  it.each([
    ['serving', 200],
    ['paused', 200],
    ['seeding', 503],
    ['degraded', 503],
    ['unhealthy', 503],
    ['zeroized', 503],
  ] as const)('says in /health that a pool is %s, with %d', async (state, code) => {
    const response = await fetch(`${await serve({ status: () => status(state) })}/health`);
    expect(response.status).toBe(code);
    expect(await response.json()).toMatchObject({ state, sources: [{ name: 'clock-jitter' }] });
  });

  it('gives metrics that Prometheus reads', async () => {
    const response = await fetch(`${await serve({})}/metrics`);
    const text = await response.text();
    expect(response.headers.get('content-type')).toContain('version=0.0.4');
    expect(text).toContain('esoteric_appliance_entropy_output_bytes_total 64\n');
    expect(text).toContain('esoteric_appliance_entropy_serving 1\n');
    expect(text).toContain(
      'esoteric_appliance_entropy_source_healthy{source="clock-jitter",family="timing"} 1\n',
    );
    for (const line of text.trimEnd().split('\n')) {
      expect(line).toMatch(/^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.]+)$/);
    }
  });

  it('knows no other path and no other method', async () => {
    const base = await serve({});
    expect((await fetch(`${base}/`)).status).toBe(404);
    const posted = await fetch(`${base}/random`, { method: 'POST' });
    expect(posted.status).toBe(405);
    expect(posted.headers.get('allow')).toBe('GET, HEAD');
  });

  it('answers an unexpected error without a stack trace', async () => {
    const base = await serve({
      read: () => {
        throw new TypeError('odd');
      },
    });
    const response = await fetch(`${base}/random`);
    expect(response.status).toBe(500);
    expect(await response.json()).toEqual({ code: 'unexpected', message: 'odd' });
  });

  it('says where it cannot listen', async () => {
    const taken = new URL(await serve({}));
    await expect(
      randomServer(
        { read: () => {}, status: () => status('serving') },
        { host: '127.0.0.1', port: Number(taken.port) },
      ),
    ).rejects.toThrow(expect.objectContaining({ code: 'listen-failed' }));
  });
});
