import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Channel, openChannel } from '../../src/alerts/channel.ts';
import { Deliverer, type DelivererOptions, type DeliveryEvent } from '../../src/alerts/deliver.ts';
import { Outbox, readCounts } from '../../src/alerts/outbox.ts';
import { dropJob } from '../../src/alerts/spool.ts';
import { startWebhook, type Webhook } from '../lab/webhook.ts';
import { sampleAlert, sampleJob } from './sample.ts';

let directory: string;
let hook: Webhook;
let outbox: Outbox;
let now: number;
let events: DeliveryEvent[];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'ea-deliver-'));
  hook = await startWebhook();
  now = Date.parse('2026-11-20T10:00:00Z');
  outbox = new Outbox(join(directory, 'outbox.db'), () => now, { random: () => 0.5 });
  events = [];
});
afterEach(async () => {
  outbox[Symbol.dispose]();
  await hook.stop();
  rmSync(directory, { recursive: true });
});

const deliverer = (changes: Partial<DelivererOptions> = {}): Deliverer =>
  new Deliverer({
    outbox,
    channels: new Map([
      ['hook', openChannel(hook.url('json'))],
      ['file', openChannel(`file://${directory}/alerts.jsonl`)],
    ]),
    bundle: async () => {},
    now: () => now,
    report: (event) => events.push(event),
    ...changes,
  });

describe('the deliverer', () => {
  it('delivers each job once and says so', async () => {
    outbox.enqueue(sampleJob('hook'), sampleJob('file'));
    expect(await deliverer().runOnce()).toBe(2);
    expect(await deliverer().runOnce()).toBe(0);
    expect(hook.received.map((post) => post.key)).toEqual(['alpha-000012']);
    expect(outbox.counts()).toEqual({ queued: 0, deadLettered: 0, delivered: 2 });
    expect(events.map((event) => `${event.channel} ${event.state}`).sort()).toEqual([
      'file delivered',
      'hook delivered',
    ]);
  });

  it('keeps what it is sending from being given up, for it may be acknowledged yet', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const slow: Channel = { name: 'slow', send: () => promise };
    const sending = deliverer({ channels: new Map([['slow', slow]]) });
    outbox.enqueue(sampleJob('slow'));
    const running = sending.runOnce();
    outbox.enqueue(sampleJob('hook'), sampleJob('file'));
    const given = outbox.limit({ bytes: 1, ageMilliseconds: 1e9 }, (id) => sending.isUnderWay(id));
    expect(given.map(({ channel }) => channel)).toEqual(['hook']);
    resolve();
    expect(await running).toBe(1);
    expect(outbox.status().find(({ channel }) => channel === 'slow')?.state).toBe('delivered');
    expect(sending.isUnderWay(1)).toBe(false);
  });

  it('tries again after 500 until the webhook recovers, with the same key', async () => {
    outbox.enqueue(sampleJob('hook'));
    hook.respond(500, { times: 2 });
    const subject = deliverer();
    expect(await subject.runOnce()).toBe(0);
    expect(await subject.runOnce()).toBe(0);
    expect(hook.received).toHaveLength(1);
    now += 60_000;
    expect(await subject.runOnce()).toBe(0);
    now += 60_000;
    expect(await subject.runOnce()).toBe(1);
    expect(hook.received.map((post) => post.key)).toEqual(Array(3).fill('alpha-000012'));
    expect(outbox.status()[0]).toMatchObject({ state: 'delivered', attempts: 3, error: null });
  });

  it('waits as long as Retry-After asks', async () => {
    outbox.enqueue(sampleJob('hook'));
    hook.respond(429, { headers: { 'retry-after': '120' }, times: 1 });
    const subject = deliverer();
    await subject.runOnce();
    now += 119_000;
    expect(await subject.runOnce()).toBe(0);
    now += 1000;
    expect(await subject.runOnce()).toBe(1);
  });

  it('dead-letters after 404, and delivers when told to try the dead again', async () => {
    outbox.enqueue(sampleJob('hook'));
    hook.respond(404, { times: 1 });
    await deliverer().runOnce();
    expect(outbox.counts()).toEqual({ queued: 0, deadLettered: 1, delivered: 0 });
    expect(events).toMatchObject([
      { state: 'dead-lettered', error: expect.stringContaining('answered 404') },
    ]);
    outbox.retryDead();
    expect(await deliverer().runOnce()).toBe(1);
  });

  it('dead-letters for a channel that is gone from the configuration', async () => {
    outbox.enqueue(sampleJob('gone'));
    await deliverer().runOnce();
    expect(outbox.status()[0]).toMatchObject({
      state: 'dead-lettered',
      error: 'The channel gone is no longer configured.',
    });
  });

  it('lets no hanging channel delay another, however much is queued for it', async () => {
    const deaf = await startWebhook();
    deaf.respond('hang');
    const backlog = Array.from({ length: 20 }, (_, index) => sampleJob('deaf', { key: `deaf-${index}` }));
    outbox.enqueue(...backlog, sampleJob('hook'));
    const stop = new AbortController();
    const looping = deliverer({
      channels: new Map([
        ['deaf', openChannel(deaf.url('json'))],
        ['hook', openChannel(hook.url('json'))],
      ]),
      pollMilliseconds: 10,
      graceMilliseconds: 300,
    }).loop(stop.signal);
    await hook.waitFor(1, 2000);
    await deaf.waitFor(4);
    outbox.enqueue(sampleJob('hook', { key: 'alpha-000013' }));
    await hook.waitFor(2, 2000);
    stop.abort();
    await looping;
    expect(deaf.received).toHaveLength(4);
    expect(outbox.counts()).toEqual({ queued: 20, deadLettered: 0, delivered: 2 });
    expect(outbox.status().filter((row) => row.channel === 'deaf' && row.attempts > 0)).toEqual([]);
    await deaf.stop();
  });

  it('gives up on a send in time, even when the channel ignores that', async () => {
    outbox.enqueue(sampleJob('stone'));
    const stone: Channel = { name: 'stone', send: () => new Promise(() => {}) };
    const timeoutMilliseconds = 50;
    await deliverer({ channels: new Map([['stone', stone]]), timeoutMilliseconds }).runOnce();
    expect(outbox.status()[0]).toMatchObject({
      state: 'queued',
      attempts: 1,
      error: 'Nothing acknowledged it within 50 ms.',
    });
  });

  it('gives a bundle all the time it needs while some of it moves, and no more', async () => {
    outbox.enqueue({ kind: 'bundle', key: 'alpha-000003', payload: { archive: '/a' } });
    const slow = async (steps: number, moved: () => void): Promise<void> => {
      for (let step = 0; step < steps; step++) {
        await delay(100);
        moved();
      }
    };
    const bundleStallMilliseconds = 600;
    const stalling: DelivererOptions['bundle'] = async (_, signal, _key, moved) => {
      await slow(2, moved);
      await delay(600_000, undefined, { signal });
    };
    await deliverer({ bundle: stalling, bundleStallMilliseconds }).runOnce();
    expect(outbox.status()[0]).toMatchObject({ state: 'queued', error: 'None of it moved within 600 ms.' });
    now += 60_000;
    await deliverer({
      bundle: (_, _signal, _key, moved) => slow(15, moved),
      bundleStallMilliseconds,
    }).runOnce();
    expect(outbox.counts().delivered).toBe(1);
  });

  it('hands bundles on, and retries them whatever goes wrong', async () => {
    const payloads: unknown[] = [];
    outbox.enqueue({ kind: 'bundle', key: 'alpha-000003', payload: { archive: '/a' } });
    const refusing = async (): Promise<void> => {
      throw new Error('https://user:S3CR3T@host refused');
    };
    await deliverer({ bundle: refusing }).runOnce();
    expect(outbox.status()[0]).toMatchObject({ state: 'queued', error: 'It failed unexpectedly (Error).' });
    now += 60_000;
    await deliverer({ bundle: async (payload) => void payloads.push(payload) }).runOnce();
    expect(payloads).toEqual([{ archive: '/a' }]);
    expect(outbox.counts().delivered).toBe(1);
  });

  it('never sends again what it delivered but could not record', async () => {
    outbox.enqueue(sampleJob('hook'));
    let full = true;
    const recorded = outbox.delivered.bind(outbox);
    outbox.delivered = (id) => {
      if (full) throw new Error('database or disk is full');
      recorded(id);
    };
    const subject = deliverer();
    await subject.runOnce();
    await subject.runOnce();
    expect(hook.received).toHaveLength(1);
    expect(events.map((event) => event.state)).toEqual(['unrecorded']);
    full = false;
    await subject.runOnce();
    expect(hook.received).toHaveLength(1);
    expect(outbox.counts().delivered).toBe(1);
  });

  it('goes on when the log of its events fails, and when the outbox fails for a while', async () => {
    outbox.enqueue(sampleJob('hook'));
    const due = outbox.due.bind(outbox);
    let failures = 2;
    outbox.due = (at) => {
      if (failures-- > 0) throw new Error('database is locked');
      return due(at);
    };
    const troubles: string[] = [];
    const stop = new AbortController();
    const report = (): never => {
      throw new Error('broken pipe');
    };
    const looping = deliverer({ pollMilliseconds: 5, report }).loop(stop.signal, (reason) =>
      troubles.push(reason),
    );
    await hook.waitFor(1);
    while (outbox.counts().delivered === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    stop.abort();
    await looping;
    expect(troubles).toEqual(['database is locked', 'database is locked']);
  });
});

describe('a courier', () => {
  const children: ChildProcess[] = [];
  const startCourier = (url: string): ChildProcess => {
    const script = fileURLToPath(new URL('courier-child.ts', import.meta.url));
    const child = spawn(process.execPath, [script, directory, url], { stdio: ['ignore', 'pipe', 'pipe'] });
    children.push(child);
    return child;
  };
  beforeEach(() => mkdirSync(join(directory, 'spool')));
  afterEach(() => {
    for (const child of children) child.kill('SIGKILL');
  });

  it('killed between send and acknowledgement delivers again, under the same key, and loses nothing', async () => {
    const spool = join(directory, 'spool');
    dropJob(spool, { kind: 'alert', alert: sampleAlert() });
    hook.respond('hang', { times: 1 });
    const first = startCourier(hook.url('json', { user: 'u:S3CR3Tt0ken', path: '/S3CR3Tt0ken' }));
    await hook.waitFor(1);
    first.kill('SIGKILL');
    await once(first, 'exit');
    expect(readdirSync(spool)).toEqual([]);
    expect(readCounts(join(directory, 'outbox.db'))).toEqual({ queued: 1, deadLettered: 0, delivered: 0 });

    const second = startCourier(hook.url('json'));
    const [status] = (await once(second, 'exit')) as [number | null];
    expect(status).toBe(0);
    expect(hook.received.map((post) => post.key)).toEqual(['alpha-000012', 'alpha-000012']);
    expect(readCounts(join(directory, 'outbox.db'))).toEqual({ queued: 0, deadLettered: 0, delivered: 1 });
  });

  it('prints no credential when it fails', async () => {
    dropJob(join(directory, 'spool'), { kind: 'alert', alert: sampleAlert() });
    hook.respond(500);
    const child = startCourier(hook.url('json', { user: 'u:S3CR3Tt0ken', path: '/S3CR3Tt0ken' }));
    let printed = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
    });
    await once(child, 'close');
    expect(printed).toContain('answered 500');
    expect(printed).not.toContain('S3CR3Tt0ken');
  });
});
