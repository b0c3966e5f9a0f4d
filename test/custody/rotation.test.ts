import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkChain, checkRollback } from '../../src/custody/chain.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import { wholeLog } from '../lab/custody.ts';

let directory: string;
let path: string;
const open = () => CustodyLog.open(path, () => '2026-11-20T16:30:00.000Z', 1000);
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-rotation-'));
  path = join(directory, 'custody.jsonl');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const files = (): string[] =>
  readdirSync(directory)
    .filter((name) => name.startsWith('custody'))
    .toSorted();

describe('a custody log that has grown', () => {
  it('is moved aside whole, again and again, and stays one chain', () => {
    using log = open();
    for (let n = 0; n < 40; n += 1) log.append('event', { n });
    const segments = files();
    expect(segments.length).toBeGreaterThan(5);
    const chain = checkChain(wholeLog(path));
    expect(chain).toMatchObject({ ok: true, head: log.head() });
    expect(chain.records.filter(({ event }) => event === 'event').map(({ detail }) => detail.n)).toEqual(
      Array.from({ length: 40 }, (_, n) => n),
    );
    expect(chain.records.filter(({ event }) => event === 'custody-rotated')).toHaveLength(
      segments.length - 1,
    );
    expect([...log.records()]).toEqual(chain.records);
    // No file of them but the first is a chain by itself: what is missing shows.
    expect(checkChain(readFileSync(path)).ok).toBe(false);
  });

  it('goes on where a kill left it between moving aside and beginning anew', () => {
    {
      using log = open();
      for (let n = 0; n < 5; n += 1) log.append('event', { n });
    }
    const { head } = checkChain(wholeLog(path));
    renameSync(path, join(directory, `custody-${String(head.sequence).padStart(12, '0')}.jsonl`));
    using log = open();
    expect(log.head()).toEqual(head);
    log.append('after', {});
    expect(checkChain(wholeLog(path)).ok).toBe(true);
  });

  it('recovers a first line that was torn after it had been moved aside', () => {
    {
      using log = open();
      for (let n = 0; n < 12; n += 1) log.append('event', { n });
    }
    const whole = wholeLog(path);
    writeFileSync(path, readFileSync(path).subarray(0, 20));
    using log = open();
    expect(log.append('after', {}).event).toBe('after');
    const chain = checkChain(wholeLog(path));
    expect(chain.ok).toBe(true);
    expect(chain.records.map(({ event }) => event)).toContain('custody-recovered');
    expect(wholeLog(path).subarray(0, 500)).toEqual(whole.subarray(0, 500));
  });

  it('is followed by another process that holds it open', () => {
    using one = open();
    using other = open();
    for (let n = 0; n < 30; n += 1) (n % 3 === 0 ? other : one).append('event', { n });
    expect(checkChain(wholeLog(path)).ok).toBe(true);
  });

  it('shows a file that was taken away, and against a head held elsewhere also the last', () => {
    using log = open();
    for (let n = 0; n < 20; n += 1) log.append('event', { n });
    const known = log.head();
    const [first = ''] = files().filter((name) => name.includes('-'));
    const kept = readFileSync(join(directory, first));
    rmSync(join(directory, first));
    expect(checkChain(wholeLog(path)).ok).toBe(false);
    writeFileSync(join(directory, first), kept);
    rmSync(path);
    const cut = checkChain(wholeLog(path));
    expect(cut.ok).toBe(true);
    expect(checkRollback(cut, known).ok).toBe(false);
  });
});
