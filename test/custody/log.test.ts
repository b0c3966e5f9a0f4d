// The custody log on a real file: growth, kill-safety, and what a reader sees.
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkChain, emptyHead } from '../../src/custody/chain.ts';
import { CustodyLog } from '../../src/custody/log.ts';

let directory: string;
let path: string;
const clock = () => '2026-11-20T16:30:00.000Z';

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-custody-'));
  path = join(directory, 'custody.jsonl');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('the custody log', () => {
  it('starts empty, readable by its owner only', () => {
    using log = CustodyLog.open(path);
    expect(log.head()).toEqual(emptyHead);
    expect([...log.records()]).toEqual([]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('chains what is appended, across openings', () => {
    {
      using log = CustodyLog.open(path, clock);
      log.append('provisioned', { node: 'alpha', keys: ['a', 'b'] });
    }
    using log = CustodyLog.open(path, clock);
    const record = log.append('started', {});
    expect(record.sequence).toBe(2);
    const chain = checkChain(readFileSync(path));
    expect(chain.ok).toBe(true);
    expect(chain.head).toEqual(log.head());
    expect(chain.records).toEqual([...log.records()]);
  });

  it('writes canonical JSON: members sorted, absent ones left out, broken text replaced', () => {
    using log = CustodyLog.open(path, clock);
    log.append('e', { b: 1, a: undefined, text: 'x\ud800\n\u2028' });
    expect(readFileSync(path, 'utf8').split('\n')[0]).toMatch(
      /^\{"detail":\{"b":1,"text":"x\ufffd\\n\u2028"\},"event":"e","previous":"0{64}","sequence":1,"time":"2026-11-20T16:30:00.000Z"\}$/,
    );
    expect(checkChain(readFileSync(path)).ok).toBe(true);
  });

  it('moves a torn last line aside and records that it did', () => {
    CustodyLog.open(path, clock)[Symbol.dispose]();
    {
      using log = CustodyLog.open(path, clock);
      log.append('one', {});
      log.append('two', { long: 'x'.repeat(20_000) });
    }
    appendFileSync(path, '{"detail":{"half');
    using log = CustodyLog.open(path, clock);
    expect([...log.records()].map((record) => record.event)).toEqual(['one', 'two', 'custody-recovered']);
    expect([...log.records()][2]?.detail).toMatchObject({ bytes: 16 });
    expect(readFileSync(`${path}.torn`, 'utf8')).toBe('{"detail":{"half');
    expect(checkChain(readFileSync(path))).toMatchObject({ ok: true, head: log.head() });
  });

  it('recovers when the very first line is torn', () => {
    writeFileSync(path, '{"detail"');
    using log = CustodyLog.open(path, clock);
    expect([...log.records()].map((record) => record.event)).toEqual(['custody-recovered']);
    expect(checkChain(readFileSync(path)).ok).toBe(true);
  });

  it('recovers from every length to which a cut can leave it', () => {
    {
      using log = CustodyLog.open(path, clock);
      log.append('one', { n: 1 });
      log.append('two', { n: 2 });
    }
    const whole = readFileSync(path);
    for (let length = 0; length <= whole.length; length += 1) {
      writeFileSync(path, whole.subarray(0, length));
      using log = CustodyLog.open(path, clock);
      log.append('after', {});
      expect(checkChain(readFileSync(path)), `cut at ${length}`).toMatchObject({
        ok: true,
        head: log.head(),
      });
    }
  });

  it('goes on from what another writer has added', () => {
    using first = CustodyLog.open(path, clock);
    using second = CustodyLog.open(path, clock);
    first.append('one', {});
    second.append('two', {});
    first.append('three', {});
    expect(checkChain(readFileSync(path))).toMatchObject({ ok: true, head: { sequence: 3 } });
  });

  it('refuses a file whose last line is whole but no record, and leaves it as it is', () => {
    writeFileSync(path, '{"some":"thing"}\n');
    expect(() => CustodyLog.open(path)).toThrowError(
      expect.objectContaining({ code: 'custody-unreadable' }) as Error,
    );
    expect(readFileSync(path, 'utf8')).toBe('{"some":"thing"}\n');
    expect(existsSync(`${path}.torn`)).toBe(false);
  });

  it('says what to do where it cannot be opened', () => {
    expect(() => CustodyLog.open(join(directory, 'missing', 'custody.jsonl'))).toThrow(
      expect.objectContaining({ code: 'custody-unwritable', remedy: expect.stringContaining('missing') }),
    );
  });

  it('can be closed twice', () => {
    const log = CustodyLog.open(path);
    log.close();
    log.close();
    expect(() => log.append('late', {})).toThrow(/closed/);
  });
});
