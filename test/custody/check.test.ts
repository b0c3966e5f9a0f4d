// The log of years, read from its files: what is found in an old one, what need not be read again, and what another thread says of it.
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Anchor, anchorsOf, unanchored } from '../../src/custody/anchor.ts';
import { checkAside, checkPacked, findAside } from '../../src/custody/aside.ts';
import { type CustodyHead, checkChain } from '../../src/custody/chain.ts';
import { checkParts, type Settled } from '../../src/custody/check.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import { LogFiles, segmentsOf, streamLog } from '../../src/custody/segments.ts';
import { wholeLog } from '../lab/custody.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-check-'));
  path = join(directory, 'custody.jsonl');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const open = () => CustodyLog.open(path, undefined, 2000);
function grow(records = 60): void {
  using log = open();
  for (let n = 1; n <= records; n += 1) log.append(n % 10 === 0 ? 'started' : 'event', { n });
}
const check = (from?: Settled) => {
  using files = new LogFiles(path);
  return checkParts(files.parts, { from });
};
/** Numbers of the lines that were read. */
const read = (from?: Settled): number[] => {
  using files = new LogFiles(path);
  const sequences: number[] = [];
  checkParts(files.parts, { from }, ({ sequence }) => sequences.push(sequence));
  return sequences;
};
const old = (at: number): string => segmentsOf(path).at(at) ?? '';
const edit = (file: string, from: string, to: string): void =>
  writeFileSync(file, readFileSync(file, 'utf8').replace(from, to));

describe('a check of the files of a log', () => {
  it('says what a check of their bytes says', () => {
    grow();
    const chain = checkChain(wholeLog(path));
    expect(segmentsOf(path).length).toBeGreaterThan(3);
    const last = anchorsOf(chain).at(-1);
    expect(check().check).toMatchObject({
      ...{ ok: true, head: chain.head },
      standing: { last: { sequence: last?.sequence }, value: Buffer.from(last?.value ?? []).toString('hex') },
    });
    expect(chain.records.length).toBeGreaterThan(60);
  });

  it('reads the last file alone where the others lie untouched, also when one more was moved aside', () => {
    grow();
    const { settled, check: first } = check();
    const last = readFileSync(path, 'utf8').trimEnd().split('\n').length;
    expect(read(settled)).toHaveLength(last);
    grow(20);
    const again = check(settled);
    expect(again.check).toEqual(check().check);
    expect(again.check.head.sequence).toBeGreaterThan(first.head.sequence);
    expect(read(settled)[0]).toBe(first.head.sequence - last + 1);
    expect(read(again.settled).length).toBeLessThan(read(settled).length);
  });

  const line = 'Line \\d+ of the custody log, line';
  it.each<[string, () => void, RegExp]>([
    [
      'was edited',
      () => edit(old(1), '"n":', '"m":'),
      new RegExp(`${line} \\d+ of custody-\\d+\\.jsonl, is broken: it`),
    ],
    [
      'was cut at its end',
      () => truncateSync(old(1), 1000),
      /of custody-\d+\.jsonl, is broken: it is torn: its end is missing/,
    ],
    [
      'was cut after a line',
      () =>
        writeFileSync(
          old(1),
          `${readFileSync(old(1), 'utf8').trimEnd().split('\n').slice(0, -1).join('\n')}\n`,
        ),
      /line 1 of custody-\d+\.jsonl, is broken: its sequence is \d+, expected \d+/,
    ],
    [
      'is gone',
      () => rmSync(old(1)),
      /line 1 of custody-\d+\.jsonl, is broken: its sequence is \d+, expected/,
    ],
    [
      'was the first and is gone',
      () => rmSync(old(0)),
      /Line 1 .* is broken: its sequence is \d+, expected 1/,
    ],
    [
      'was the last and is gone',
      () => rmSync(old(-1)),
      /line 1 of custody\.jsonl, is broken: its sequence is/,
    ],
    [
      'was swapped with another',
      () => {
        const [one, other] = [old(1), old(2)];
        renameSync(one, `${directory}/kept`);
        renameSync(other, one);
        renameSync(`${directory}/kept`, other);
      },
      /line 1 of custody-\d+\.jsonl, is broken: its sequence is \d+, expected/,
    ],
    [
      'is a copy of another',
      () => copyFileSync(old(0), old(1)),
      /line 1 of custody-\d+\.jsonl, is broken: its sequence is 1, expected/,
    ],
  ])(
    'finds an old file that %s, by its line and why, also where it had been read before',
    (_, change, problem) => {
      grow();
      const { settled } = check();
      change();
      const found = check().check;
      expect(found).toMatchObject({ ok: false, problem: expect.stringMatching(problem) });
      expect(check(settled).check).toEqual(found);
    },
  );

  it('finds an edit also where the times of its content were put back', () => {
    grow();
    const { settled } = check();
    edit(old(1), '"n":1', '"n":7');
    utimesSync(old(1), 0, 0);
    expect(check(settled).check.ok).toBe(false);
  });

  it('is of the moment in which the log was opened: what is moved aside and written meanwhile is not in it', () => {
    grow();
    const { head } = checkChain(wholeLog(path));
    using files = new LogFiles(path);
    grow(30);
    expect(checkParts(files.parts).check).toMatchObject({ ok: true, head });
  });
});

describe('another thread', () => {
  it('says the same of a long log as this one: of its chain, its records, and what a bundle has of it', async () => {
    {
      using log = CustodyLog.open(path, undefined, 3 << 19);
      for (let n = 1; n <= 150; n += 1)
        log.append(n % 10 === 0 ? 'started' : 'event', {
          sequence: n,
          text: `${n} "event":"started" `.repeat(600),
        });
    }
    const whole = wholeLog(path);
    expect(whole.length).toBeGreaterThan(3 << 19); // Several files of several pieces: so much is read there, and not here.
    const chain = checkChain(whole);
    const anchors = anchorsOf(chain);
    const head = ({ sequence, hash }: Anchor): CustodyHead => ({
      sequence,
      hash: Buffer.from(hash).toString('hex'),
    });
    const standingAt = (had: number) => ({
      last: anchors.map(head).at(-1),
      value: Buffer.from(anchors.at(-1)?.value ?? []).toString('hex'),
      followed: had === 0 ? null : anchors.map(head)[had - 1],
      pending: anchors.map(head).slice(had),
    });
    const { check: aside, settled } = await checkAside(path, { held: anchors[2]?.value });
    expect(aside).toEqual({ ok: true, head: chain.head, standing: standingAt(3) });
    using files = new LogFiles(path);
    const heldTo = (value: Uint8Array) => checkParts(files.parts, { held: value }).check.standing;
    expect(heldTo(unanchored)).toEqual(standingAt(0));
    expect(heldTo(new Uint8Array(32).fill(7))).toMatchObject({ followed: undefined, pending: [] });
    const held = anchors.at(-1)?.value;
    expect((await checkAside(path, { from: settled, held })).check.standing).toEqual(
      standingAt(anchors.length),
    );
    const started = chain.records.filter(({ event }) => event === 'started');
    expect(await findAside(path, { events: ['started'] })).toEqual({ records: started });
    const since = started[9]?.time ?? '';
    expect(await findAside(path, { events: ['started'], since })).toEqual({
      records: started.filter(({ time }) => time >= since),
    });
    const three = await findAside(path, { events: ['event'], bundles: [3, 4, 10] });
    expect(three.records.map(({ detail }) => detail.sequence)).toEqual([3, 4]);
    writeFileSync(`${path}.gz`, gzipSync(whole));
    expect(await checkPacked(`${path}.gz`)).toEqual({ ok: true, head: chain.head });
    const known = { sequence: 9, hash: chain.records[9]?.previous ?? '' };
    expect(await checkPacked(`${path}.gz`, known)).toMatchObject({ ok: true });
    expect((await checkPacked(`${path}.gz`, { ...known, sequence: 8 })).problem).toMatch(/^Record 8 /);
    writeFileSync(`${path}.gz`, gzipSync(whole.subarray(0, -1)));
    expect(await checkPacked(`${path}.gz`)).toMatchObject({
      ok: false,
      problem: expect.stringMatching(/torn/),
    });
    await expect(checkPacked(`${path}.none`)).rejects.toThrow(/ENOENT/);
    const pieces: Uint8Array[] = [];
    for await (const piece of streamLog(path)) pieces.push(Buffer.from(piece));
    expect(Buffer.concat(pieces).equals(whole)).toBe(true);
  });

  it('gives what the log tells up to a line that is none to who only looks, and refuses it to who relies on it', async () => {
    grow();
    edit(old(1), '"event":"', '"event":');
    using log = open();
    expect([...log.records()].length).toBeLessThan(40);
    await expect(log.recall({ events: ['started'] })).rejects.toMatchObject({ code: 'custody-unreadable' });
  });
});
