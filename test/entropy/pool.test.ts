import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { noiseSources } from '../../src/entropy/catalogue.ts';
import { parseCreditPolicy } from '../../src/entropy/credit.ts';
import { EntropyPool, type PoolOptions } from '../../src/entropy/pool.ts';
import { noiseHasFailed } from '../../src/entropy/status.ts';
import { SecretArena } from '../../src/host/arena.ts';
import type { Failure } from '../../src/host/failure.ts';
import { monotonicMicros } from '../../src/host/time.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-pool-'));
afterAll(() => rmSync(directory, { recursive: true }));

const policy = parseCreditPolicy(
  `[source.clock-jitter]
   credit = 0.1
   assumed = 0.5
   reason = "for this test"
   measured = "not at all"
   [source.hash-timing]
   credit = 0.1
   assumed = 0.5
   reason = "for this test"
   measured = "not at all"`,
  'test policy',
);

const openArena = (): SecretArena => SecretArena.allocate({ allowSwappable: true });
/** Two that count and two that do not, of either lane: to open all of them takes seconds. */
const sources = ['clock-jitter', 'hash-timing', 'vmstat', 'sleep-jitter'];
const start = (arena: SecretArena, options: Partial<PoolOptions> = {}): Promise<EntropyPool> =>
  EntropyPool.start({ arena, settings: { directory }, sources, policy, clock: monotonicMicros, ...options });

const threads = (): number => readdirSync('/proc/self/task').length;
const stateOf = (pool: EntropyPool, name: string): string | undefined =>
  pool.status().sources.find((source) => source.name === name)?.state;
const samplesOf = (pool: EntropyPool): number =>
  pool.status().sources.reduce((sum, { samples }) => sum + samples, 0);

function outputOf(pool: EntropyPool): string {
  try {
    pool.read(new Uint8Array(32));
    return 'given';
  } catch (error) {
    return (error as Failure).code;
  }
}

async function until(condition: () => boolean, milliseconds = 8000): Promise<void> {
  const deadline = performance.now() + milliseconds;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));
/** The value once it has been the same for a while: a round that was under way has ended. */
async function settled(read: () => number): Promise<number> {
  for (let before = -1, now = read(); ; before = now, now = read()) {
    if (now === before) return now;
    await pause(300);
  }
}
const coded = (code: string) => expect.objectContaining({ code });

describe('the entropy pool', () => {
  it('refuses before its first seed, then serves, and leaves no thread and no file', async () => {
    using arena = openArena();
    const before = threads();
    {
      await using pool = await start(arena);
      expect(pool.status().state).toBe('seeding');
      const early = new Uint8Array(16).fill(1);
      expect(() => pool.read(early)).toThrow(coded('entropy-not-ready'));
      expect(early.every((byte) => byte === 0)).toBe(true);
      await expect(pool.ready(0)).rejects.toThrow(coded('entropy-not-ready'));
      await pool.ready();
      const out = new Uint8Array(100_000);
      pool.read(out);
      expect(new Set(out).size).toBe(256);
      const status = pool.status();
      expect(status).toMatchObject({ state: 'serving', seeded: true, reseeds: 0, bytesOut: 100_000 });
      expect(status.credited).toBeGreaterThanOrEqual(448);
      expect(threads()).toBeGreaterThan(before);
      await pool[Symbol.asyncDispose]();
      expect(pool.status().state).toBe('stopped');
      expect(() => pool.read(out)).toThrow(coded('entropy-stopped'));
    }
    await until(() => threads() <= before);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('gives its part of the arena back when it stops', async () => {
    using arena = openArena();
    for (let i = 0; i < 5; i++) {
      await using pool = await start(arena, { sources: ['clock-jitter', 'hash-timing'] });
      await pool.ready();
    }
    using whole = arena.take(arena.region.byteLength, 'all of it');
    expect(whole.bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('brings at least six sources through their start-up tests', async () => {
    using arena = openArena();
    await using pool = await start(arena, { sources: noiseSources({ directory }).map(({ name }) => name) });
    await until(() => pool.status().sources.filter(({ state }) => state === 'healthy').length >= 6, 15_000);
    expect(pool.status().sources.every(({ failures }) => failures === 0)).toBe(true);
  }, 20_000);

  it('pauses for a maintenance window without a health failure, and goes on after it', async () => {
    using arena = openArena();
    await using pool = await start(arena);
    await pool.ready();
    pool.pause('cable replaced');
    const paused = await settled(() => samplesOf(pool));
    expect(pool.status()).toMatchObject({ state: 'paused', pausedFor: 'cable replaced' });
    pool.read(new Uint8Array(32));
    await pause(300);
    expect(samplesOf(pool)).toBe(paused);
    pool.resume();
    await until(() => samplesOf(pool) > paused);
    expect(pool.status().state).toBe('serving');
    expect(pool.status().sources.every(({ failures }) => failures === 0)).toBe(true);
    pool.pause('cable replaced');
    arena.wipe();
    expect(pool.status().state).toBe('zeroized');
    expect(pool.status().pausedFor).toBeUndefined();
  });

  it('stops in a window that lasts longer than a seed may serve, says so, and is back when the window ends', async () => {
    using arena = openArena();
    let ahead = 0;
    await using pool = await start(arena, { clock: () => monotonicMicros() + ahead });
    await pool.ready();
    pool.pause('maintenance: long works');
    // The rings may hold enough for a few seeds more.
    await until(() => {
      ahead += 3_600_000_001;
      return pool.status().state === 'unhealthy' && outputOf(pool) === 'entropy-unhealthy';
    });
    expect(() => pool.read(new Uint8Array(32))).toThrow(/no noise is collected \(maintenance: long works\)/);
    expect(noiseHasFailed(pool.status())).toBe(false); // No source has.
    pool.resume();
    await until(() => outputOf(pool) === 'given');
    expect(pool.status().state).toBe('serving');
  });

  it('isolates a stuck source while the others go on, and takes it back after a restart', async () => {
    using arena = openArena();
    await using pool = await start(arena);
    await pool.ready();
    pool.induce('clock-jitter', 'stuck');
    await until(() => stateOf(pool, 'clock-jitter') === 'expelled');
    expect(stateOf(pool, 'hash-timing')).toBe('healthy');
    expect(pool.status().state).toBe('serving');
    pool.read(new Uint8Array(32));
    pool.induce('clock-jitter', undefined);
    pool.restart('clock-jitter');
    await until(() => stateOf(pool, 'clock-jitter') === 'healthy');
  });

  it('stops serving at the reseed limit when every credited source has failed, and never before', async () => {
    using arena = openArena();
    let now = 0;
    await using pool = await start(arena, {
      clock: () => now,
      reseedAfter: { requests: 1e9, micros: 1000 },
      limits: { requests: 1e9, micros: 10_000 },
    });
    await pool.ready();
    for (const name of ['clock-jitter', 'hash-timing']) pool.induce(name, 'repeating');
    await until(
      () => stateOf(pool, 'clock-jitter') === 'expelled' && stateOf(pool, 'hash-timing') === 'expelled',
    );
    now = 9999;
    pool.read(new Uint8Array(32));
    expect(pool.status().state).toBe('degraded');
    now = 10_000;
    expect(() => pool.read(new Uint8Array(32))).toThrow(coded('entropy-unhealthy'));
    expect(pool.status().state).toBe('unhealthy');
  });

  it('reseeds by time and by count while samples come in', async () => {
    using arena = openArena();
    let now = 0;
    await using pool = await start(arena, { clock: () => now, reseedAfter: { requests: 3, micros: 1000 } });
    await pool.ready();
    now = 1000;
    await until(() => {
      pool.read(new Uint8Array(1));
      return pool.status().reseeds === 1;
    });
    await until(() => {
      pool.read(new Uint8Array(1));
      return pool.status().reseeds === 2;
    });
    expect(pool.status().credited).toBeGreaterThanOrEqual(3 * 448);
  });

  it('refuses everything after a zeroize, in the middle of its work, and its thread ends', async () => {
    using arena = openArena();
    const before = threads();
    const pool = await start(arena);
    await pool.ready();
    arena.wipe();
    const out = new Uint8Array(32).fill(1);
    expect(() => pool.read(out)).toThrow(coded('zeroized'));
    expect(out.every((byte) => byte === 0)).toBe(true);
    await expect(pool.ready()).rejects.toThrow(coded('zeroized'));
    expect(pool.status()).toMatchObject({ state: 'zeroized' });
    await until(() => threads() <= before);
    await pool[Symbol.asyncDispose]();
  });

  it('refuses to become ready when a zeroize comes first', async () => {
    using arena = openArena();
    await using pool = await start(arena);
    arena.wipe();
    await expect(pool.ready()).rejects.toThrow(coded('zeroized'));
  });

  it('says so when the collector thread cannot do its work', async () => {
    using arena = openArena();
    // The region that the thread attaches to is zeroized for it alone, so that it fails at its first step.
    const control = new SharedArrayBuffer(64);
    new Int32Array(control)[0] = 1;
    const broken = Object.create(arena, {
      region: { value: { ...arena.region, control } },
      take: { value: (length: number, label: string) => arena.take(length, label) },
      zeroized: { get: () => false },
    }) as SecretArena;
    await using pool = await start(broken);
    await expect(pool.ready()).rejects.toThrow(coded('entropy-unhealthy'));
    expect(pool.status().state).toBe('unhealthy');
    expect(pool.status().sources[0]).toMatchObject({ state: 'expelled' });
    expect(pool.status().why).toContain('collector thread');
  });

  it('refuses sources it does not know and credit that never fills a seed', async () => {
    using arena = openArena();
    await expect(start(arena, { sources: ['dice'] })).rejects.toThrow(coded('source-unknown'));
    await expect(start(arena, { sources: ['vmstat', 'interrupts'] })).rejects.toThrow(
      coded('entropy-uncredited'),
    );
    await using pool = await start(arena, { sources: ['clock-jitter'] });
    expect(() => pool.restart('hash-timing')).toThrow(coded('source-unknown'));
  });
});
