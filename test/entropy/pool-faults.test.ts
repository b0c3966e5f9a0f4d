import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { examineBriefly } from '../../src/entropy/assessment/examine.ts';
import { noiseSources } from '../../src/entropy/catalogue.ts';
import { parseCreditPolicy } from '../../src/entropy/credit.ts';
import { EntropyPool, type PoolOptions } from '../../src/entropy/pool.ts';
import { inducedFailures } from '../../src/entropy/rehearsal.ts';
import { SeedFile } from '../../src/entropy/seed-file.ts';
import { SecretArena } from '../../src/host/arena.ts';
import { monotonicMicros } from '../../src/host/time.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-pool-faults-'));
afterAll(() => rmSync(directory, { recursive: true }));

const entry = (name: string): string =>
  `[source.${name}]\ncredit = 0.2\nassumed = 0.5\nreason = "for this test"\nmeasured = "not at all"\n`;
const policy = parseCreditPolicy(
  entry('hash-timing') + entry('clock-jitter') + entry('sleep-jitter'),
  'test policy',
);
const sources = ['hash-timing', 'clock-jitter', 'sleep-jitter', 'vmstat'];
const patience = { stuck: 1000, stuckRetry: 300, retry: 5, silence: 100 };

const openArena = (): SecretArena => SecretArena.allocate({ allowSwappable: true });
const start = (arena: SecretArena, options: Partial<PoolOptions> = {}): Promise<EntropyPool> =>
  EntropyPool.start({
    arena,
    sources,
    settings: { directory },
    policy,
    clock: monotonicMicros,
    patience,
    ...options,
  });
const stateOf = (pool: EntropyPool, name: string): string | undefined =>
  pool.status().sources.find((source) => source.name === name)?.state;
const threads = (): number => readdirSync('/proc/self/task').length;

async function until(what: string, condition: () => boolean, milliseconds = 30_000): Promise<void> {
  const deadline = performance.now() + milliseconds;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('a pool whose source fails', () => {
  it.each(inducedFailures.filter((failure) => failure !== 'short'))(
    'goes on without it, and takes it back: %s',
    { timeout: 60_000 },
    async (failure) => {
      using arena = openArena();
      const heard: string[] = [];
      await using pool = await start(arena, { onSourceFailed: (name, why) => heard.push(`${name}: ${why}`) });
      await pool.ready();
      for (const name of ['clock-jitter', 'sleep-jitter'])
        await until(`${name} is healthy before`, () => stateOf(pool, name) === 'healthy');
      pool.induce('clock-jitter', failure);
      await until('isolated', () => ['failed', 'expelled'].includes(stateOf(pool, 'clock-jitter') ?? ''));
      pool.read(new Uint8Array(1000));
      expect(pool.status().state).toBe('serving');
      await until('told', () => heard.some((line) => line.startsWith('clock-jitter: ')));
      await until('the others go on', () => stateOf(pool, 'hash-timing') === 'healthy');
      pool.induce('clock-jitter', undefined);
      pool.restart('clock-jitter');
      await until('taken back', () => stateOf(pool, 'clock-jitter') === 'healthy');
    },
  );

  it('leaves out, after some tries, one that blocks again and again, and ends without it', {
    timeout: 60_000,
  }, async () => {
    using arena = openArena();
    const before = threads();
    {
      await using pool = await start(arena);
      await pool.ready();
      const blocked = (): number =>
        pool.status().sources.find(({ name }) => name === 'sleep-jitter')?.failures ?? 0;
      await until('the patient lane works', () => stateOf(pool, 'sleep-jitter') === 'healthy');
      pool.induce('sleep-jitter', 'blocking');
      await until('blocked three times', () => blocked() >= 3);
      expect(stateOf(pool, 'sleep-jitter')).toBe('expelled');
      expect(pool.status().sources.find(({ name }) => name === 'sleep-jitter')?.why).toContain(
        'has not answered',
      );
      await until('its neighbour goes on', () => stateOf(pool, 'vmstat') === 'healthy');
    }
    await until('no thread is left', () => threads() <= before);
  });

  it('has its thread serve again when it comes back', { timeout: 60_000 }, async () => {
    using arena = openArena();
    await using pool = await start(arena, { patience: { ...patience, stuckRetry: 60_000 } });
    await pool.ready();
    await until('healthy before', () => stateOf(pool, 'clock-jitter') === 'healthy');
    const seen: string[][] = [];
    for (let round = 0; round < 4; round++) {
      pool.induce('clock-jitter', 'blocking');
      await until('isolated', () => stateOf(pool, 'clock-jitter') === 'expelled');
      pool.induce('clock-jitter', undefined);
      pool.restart('clock-jitter');
      await until('taken back', () => stateOf(pool, 'clock-jitter') === 'healthy');
      seen.push(readdirSync('/proc/self/task'));
    }
    // The first round makes the second thread of the lane; the other lane may begin later.
    const [first = [], ...later] = seen;
    const others = new Set(later.flat().filter((thread) => !first.includes(thread)));
    expect(others.size).toBeLessThanOrEqual(1);
  });

  it('says so, and does not keep anybody waiting, when what is left can make no seed', async () => {
    using arena = openArena();
    await using pool = await start(arena, { sources: ['hash-timing', 'clock-jitter'] });
    for (const name of ['hash-timing', 'clock-jitter']) pool.induce(name, 'stuck');
    await expect(pool.ready(60_000)).rejects.toThrow(expect.objectContaining({ code: 'entropy-uncredited' }));
    expect(pool.status().state).toBe('unhealthy');
  });

  it('says so, once, when nothing that counts is healthy, and again when it is', {
    timeout: 60_000,
  }, async () => {
    using arena = openArena();
    const states: string[] = [];
    await using pool = await start(arena, { onState: (state) => states.push(state) });
    await pool.ready();
    await until('serving', () => states.includes('serving'));
    for (const name of ['hash-timing', 'clock-jitter']) pool.induce(name, 'stuck');
    await until('degraded', () => states.includes('degraded'));
    for (const name of ['hash-timing', 'clock-jitter']) {
      pool.induce(name, undefined);
      pool.restart(name);
    }
    await until('serving again', () => states.at(-1) === 'serving');
    expect(states).toEqual(['serving', 'degraded', 'serving']);
  });
});

describe('what a source counts', () => {
  it('is nothing until it has been assessed here; a kept assessment counts at once', async () => {
    using arena = openArena();
    const record = (name: string) => {
      const source = noiseSources({ directory }).find((one) => one.name === name);
      if (source === undefined) throw new Error(name);
      return { ...examineBriefly(source, 0.2), kind: 'full' as const };
    };
    const assessments = new Map([['sleep-jitter', { ...record('clock-jitter'), source: 'sleep-jitter' }]]);
    await using pool = await start(arena, {
      sources: ['hash-timing', 'sleep-jitter', 'vmstat'],
      assessments,
    });
    const of = (name: string) => pool.status().sources.find((source) => source.name === name);
    expect(of('hash-timing')).toMatchObject({ credit: 0, assessed: 'none' });
    expect(of('sleep-jitter')).toMatchObject({ credit: 0.2, assessed: 'full' });
    await pool.ready();
    expect(of('hash-timing')).toMatchObject({ credit: 0.2, assessed: 'brief' });
    expect(of('vmstat')).toMatchObject({ credit: 0, assessed: 'none' });
  });

  it('never suffices for a source that is slow and was not assessed', async () => {
    using arena = openArena();
    await expect(start(arena, { sources: ['sleep-jitter', 'vmstat'] })).rejects.toThrow(
      expect.objectContaining({ code: 'entropy-uncredited' }),
    );
  });
});

describe('output', () => {
  it('with prediction resistance rests on noise that came after the last seed', async () => {
    using arena = openArena();
    await using pool = await start(arena);
    await pool.ready();
    for (let n = 1; n <= 3; n++) {
      const out = new Uint8Array(64);
      await pool.readFresh(out);
      expect(pool.status().reseeds).toBe(n);
      expect(new Set(out).size).toBeGreaterThan(16);
    }
    pool.pause('a window');
    const out = new Uint8Array(8).fill(1);
    await expect(pool.readFresh(out, 30)).rejects.toThrow(
      expect.objectContaining({ code: 'entropy-not-ready' }),
    );
    expect(out.every((byte) => byte === 0)).toBe(true);
  });

  it('comes to each consumer from a generator of its own, reseeded with the pool', async () => {
    using arena = openArena();
    await using pool = await start(arena);
    const early = pool.consumer('early');
    expect(() => early.read(new Uint8Array(1))).toThrow(
      expect.objectContaining({ code: 'entropy-not-ready' }),
    );
    await pool.ready();
    const [one, other] = [pool.consumer('same label'), pool.consumer('same label')];
    const outs = [early, one, other].map((consumer) => {
      const out = new Uint8Array(32);
      consumer.read(out);
      return Buffer.from(out).toString('hex');
    });
    expect(new Set(outs).size).toBe(3);
    expect(pool.status().bytesOut).toBe(96);
    await pool.readFresh(new Uint8Array(1));
    one.read(new Uint8Array(32));
    pool.release(one);
    expect(() => one.read(new Uint8Array(1))).toThrow();
    arena.wipe();
    const out = new Uint8Array(16).fill(1);
    expect(() => other.read(out)).toThrow(expect.objectContaining({ code: 'zeroized' }));
    expect(out.every((byte) => byte === 0)).toBe(true);
  });

  it('starts from a seed file too, which counts nothing', async () => {
    using arena = openArena();
    using seedFile = SeedFile.take({ path: join(directory, 'seed'), arena });
    await using pool = await start(arena, { seedFile });
    expect(pool.status()).toMatchObject({ seeded: false, credited: 0 });
    await pool.ready();
    expect(pool.status().credited).toBeGreaterThanOrEqual(448);
  });
});
