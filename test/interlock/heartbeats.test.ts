import { describe, expect, it } from 'vitest';
import { Heartbeats } from '../../src/interlock/heartbeats.ts';

const minute = 60_000;

describe('heartbeats', () => {
  it('keep the longest silence of each thread, beside the limit', () => {
    const beats = new Heartbeats(3000);
    for (const silence of [300, 900, 310]) expect(beats.silent('main', silence, 0)).toBeUndefined();
    beats.silent('watcher', 12.4, 0);
    expect(beats.status()).toEqual({ main: 900, watcher: 12, limit: 3000 });
  });

  it('tell of half of the limit, of each thread once an hour', () => {
    const beats = new Heartbeats(3000);
    expect(beats.silent('main', 1499, 0)).toBeUndefined();
    const late = { kind: 'late', thread: 'main', milliseconds: 1500, limitMilliseconds: 3000 };
    expect(beats.silent('main', 1500, minute)).toEqual(late);
    expect(beats.silent('main', 2900, 2 * minute)).toBeUndefined();
    expect(beats.silent('watcher', 1600, 2 * minute)).toMatchObject({ thread: 'watcher' });
    expect(beats.silent('main', 1500, 61 * minute)).toEqual(late);
    expect(beats.status()).toMatchObject({ main: 2900, watcher: 1600 });
  });
});
