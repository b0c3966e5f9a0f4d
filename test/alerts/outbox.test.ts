import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { backoffMilliseconds, isExhausted, retryLimits } from '../../src/alerts/backoff.ts';
import { Outbox, readCounts } from '../../src/alerts/outbox.ts';
import { Failure } from '../../src/host/failure.ts';
import { sampleJob } from './sample.ts';

const day = 86_400_000;
const bundle = (key: string) => ({ kind: 'bundle' as const, key, payload: { archive: `/out/${key}` } });

let directory: string;
let path: string;
let now: number;
const open = (random = 1): Outbox => new Outbox(path, () => now, { random: () => random });

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-outbox-'));
  path = join(directory, 'outbox.db');
  now = Date.parse('2026-11-20T10:00:00Z');
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('the outbox', () => {
  it('keeps jobs over closing and opening, in the order they came', () => {
    {
      using outbox = open();
      expect(outbox.enqueue(sampleJob('b'), sampleJob('a'), bundle('alpha-000003'))).toBe(3);
    }
    using outbox = open();
    const due = outbox.due(now);
    expect(due).toEqual([
      { ...sampleJob('b'), id: 1, attempts: 0 },
      { ...sampleJob('a'), id: 2, attempts: 0 },
      { ...bundle('alpha-000003'), id: 3, attempts: 0 },
    ]);
    expect(outbox.counts()).toEqual({ queued: 3, deadLettered: 0, delivered: 0 });
  });

  it('is readable by its owner only, with its companion files', () => {
    using outbox = open();
    outbox.enqueue(sampleJob('a'));
    for (const file of [path, `${path}-wal`, `${path}-shm`]) expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('takes the same key for the same channel once', () => {
    using outbox = open();
    expect(outbox.enqueue(sampleJob('a'), sampleJob('a'))).toBe(1);
    expect(outbox.enqueue(sampleJob('a', { body: 'other' }))).toBe(0);
    expect(outbox.enqueue(sampleJob('b'))).toBe(1);
  });

  it('is never again told what it has delivered, not even when a restart announces it at another time', () => {
    using outbox = open();
    outbox.enqueue(sampleJob('a'));
    outbox.delivered(1);
    now += 1000 * day;
    expect(outbox.enqueue(sampleJob('a', { time: '2029-01-01T00:00:00Z' }))).toBe(0);
    expect(outbox.enqueue(sampleJob('a', { body: 'again' }))).toBe(0);
  });

  it('speaks of a new message under a delivered key when a window was set and has passed', () => {
    using outbox = new Outbox(path, () => now, { deduplicationMilliseconds: day });
    outbox.enqueue(sampleJob('a'));
    outbox.delivered(1);
    now += day - 1;
    expect(outbox.enqueue(sampleJob('a', { body: 'again' }))).toBe(0);
    now += 1;
    expect(outbox.enqueue(sampleJob('a', { time: '2026-11-30T00:00:00Z' }))).toBe(0);
    expect(outbox.enqueue(sampleJob('a', { body: 'again' }))).toBe(1);
    expect(outbox.counts()).toEqual({ queued: 1, deadLettered: 0, delivered: 0 });
  });

  it('adds all jobs of a call or none', () => {
    using outbox = open();
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    expect(() => outbox.enqueue(sampleJob('a'), { ...bundle('k'), payload: circular })).toThrow();
    expect(outbox.counts().queued).toBe(0);
    expect(outbox.enqueue(sampleJob('a'))).toBe(1);
  });

  it('waits longer after each failure, up to a cap, and at least as long as it was asked to', () => {
    using outbox = open();
    outbox.enqueue(sampleJob('a'));
    const waits = Array.from({ length: 10 }, () => {
      expect(outbox.failed(1, 'It answered 500.')).toBe('queued');
      return (outbox.status()[0]?.due ?? 0) - now;
    });
    expect(waits.slice(0, 3)).toEqual([2000, 4000, 8000]);
    expect(waits.at(-1)).toBe(300_000);
    outbox.failed(1, 'It answered 429.', false, 1_000_000);
    expect((outbox.status()[0]?.due ?? 0) - now).toBe(1_000_000);
    expect(outbox.due(now)).toEqual([]);
    expect(outbox.due(now + 1_000_000)).toHaveLength(1);
  });

  it('dead-letters a permanent failure, keeps it, and tries it again when told', () => {
    using outbox = open();
    outbox.enqueue(sampleJob('a'));
    expect(outbox.failed(1, 'It answered 404.', true)).toBe('dead-lettered');
    expect(outbox.failed(1, 'late', false)).toBe('dead-lettered');
    expect(outbox.due(now + 10 * day)).toEqual([]);
    expect(outbox.counts()).toEqual({ queued: 0, deadLettered: 1, delivered: 0 });
    expect(outbox.status()[0]).toMatchObject({ state: 'dead-lettered', error: 'It answered 404.' });
    expect(outbox.retryDead()).toBe(1);
    expect(outbox.due(now)).toMatchObject([{ key: 'alpha-000012', attempts: 0 }]);
  });

  it('dead-letters an alert after three days, but not for a leap of the clock alone', () => {
    using outbox = open(0);
    outbox.enqueue(sampleJob('a'));
    now += 20_000 * day;
    for (let attempt = 1; attempt < 20; attempt++) expect(outbox.failed(1, 'no')).toBe('queued');
    expect(outbox.failed(1, 'no')).toBe('dead-lettered');
  });

  it('never gives a bundle up, unless there is nothing left to deliver', () => {
    using outbox = open(0);
    outbox.enqueue(bundle('alpha-000003'));
    for (let attempt = 0; attempt < 50; attempt++) {
      now += day;
      expect(outbox.failed(1, 'S3 refuses.')).toBe('queued');
    }
    expect(outbox.due(now)).toHaveLength(1);
    expect(outbox.failed(1, 'It is gone.', true)).toBe('dead-lettered');
  });

  it('gives up the least urgent and oldest alerts where more waits than may; bundles stay', () => {
    using outbox = open();
    outbox.enqueue(
      sampleJob('a'),
      sampleJob('a', { key: 'mild', severity: 'notice' }),
      bundle('alpha-000003'),
    );
    const within = (bytes: number, ageMilliseconds = day) => outbox.limit({ bytes, ageMilliseconds });
    expect(within(10_000)).toEqual([]);
    expect(within(300)).toEqual([{ key: 'mild', channel: 'a', severity: 'notice', why: 'size' }]);
    expect(within(300)).toEqual([]);
    outbox.enqueue(sampleJob('b', { key: 'old', severity: 'warning' }));
    now += 2 * day;
    expect(within(10_000)).toEqual([{ key: 'old', channel: 'b', severity: 'warning', why: 'age' }]);
    expect(outbox.counts()).toEqual({ queued: 2, deadLettered: 2, delivered: 0 });
    expect(outbox.status()[0]?.error).toBe('Given up because of its age, by the limits of the spool.');
  });

  it('makes everything due at once when flushed, or when the clock was set back', () => {
    using outbox = open();
    outbox.enqueue(sampleJob('a'), sampleJob('b'));
    outbox.failed(1, 'no');
    expect(outbox.due(now).map((job) => job.id)).toEqual([2]);
    expect(outbox.flush()).toBe(2);
    expect(outbox.due(now)).toHaveLength(2);
    outbox.failed(1, 'no');
    expect(outbox.due(now - 10 * day).map((job) => job.id)).toContain(1);
  });

  it('does not deliver twice what it has recorded', () => {
    using outbox = open();
    outbox.enqueue(sampleJob('a'));
    outbox.delivered(1);
    outbox.delivered(1);
    expect(outbox.failed(1, 'late')).toBe('delivered');
    expect(outbox.status()).toMatchObject([{ state: 'delivered', attempts: 1, ended: now }]);
    expect(outbox.failed(99, 'unknown')).toBe('queued');
  });

  it('says what to do when the file is no database', () => {
    writeFileSync(path, 'x'.repeat(4096));
    expect(() => open()).toThrow(Failure);
    expect(() => readCounts(path)).toThrow(Failure);
    expect(() => new Outbox(join(directory, 'absent', 'outbox.db'))).toThrow(Failure);
  });
});

describe('the counts for status', () => {
  it('are zeros where there is no outbox, or an empty file of one', () => {
    const none = { queued: 0, deadLettered: 0, delivered: 0 };
    expect(readCounts(path)).toEqual(none);
    writeFileSync(path, '');
    expect(readCounts(path)).toEqual(none);
  });

  it('are read while another connection writes', () => {
    using outbox = open();
    outbox.enqueue(sampleJob('a'), sampleJob('b'), sampleJob('c'));
    outbox.delivered(1);
    outbox.failed(2, 'no', true);
    expect(readCounts(path)).toEqual({ queued: 1, deadLettered: 1, delivered: 1 });
    outbox.enqueue(sampleJob('d'));
    expect(readCounts(path).queued).toBe(2);
  });
});

describe('the back-off', () => {
  it('is between nothing and the cap, whatever the attempt', () => {
    fc.assert(
      fc.property(
        fc.nat(1_000_000),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (n, random) => {
          const wait = backoffMilliseconds(n, retryLimits.alert, random);
          expect(Number.isInteger(wait) && wait >= 0 && wait <= 300_000).toBe(true);
        },
      ),
    );
  });

  it('ends by number of attempts too', () => {
    expect(isExhausted(1999, 0, retryLimits.alert)).toBe(false);
    expect(isExhausted(2000, 0, retryLimits.alert)).toBe(true);
    expect(isExhausted(1_000_000, 1e15, retryLimits.bundle)).toBe(false);
  });
});
