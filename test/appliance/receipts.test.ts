// What becomes of deliveries and of what is kept, in the custody log: a real log, spool and directory of receipts.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Alert, Severity } from '../../src/alerts/alert.ts';
import { type Receipt, writeReceipt } from '../../src/alerts/receipts.ts';
import { dropJob, takeJobs } from '../../src/alerts/spool.ts';
import type { Announcer } from '../../src/appliance/announce.ts';
import { type Config, loadConfig } from '../../src/appliance/config.ts';
import { keepHouse } from '../../src/appliance/housekeeping.ts';
import type { NodeRecord } from '../../src/appliance/node-record.ts';
import { GivenUpLately, recordReceipts, tellGivenUp } from '../../src/appliance/receipts.ts';
import { limitBundles, Settled } from '../../src/appliance/retention.ts';
import { makeStateDirectories, stateLayout } from '../../src/appliance/state-layout.ts';
import { uploadsOf } from '../../src/appliance/uploads.ts';
import { checkChain } from '../../src/custody/chain.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import type { Member } from '../../src/forensics/series.ts';
import { appraiseGaps } from '../../src/forensics/series-gaps.ts';

const now = Date.UTC(2026, 10, 20, 16, 30);
const day = 86_400_000;
let directory: string;
let custody: CustodyLog;
let told: string[];
let alerts: string[];
let config: Config;
const layout = () => stateLayout(directory);
const record = { node: 'alpha' } as NodeRecord;
/** Journald is not needed to see what is told. */
const announcer = {
  event: (name: string, message: string) => void told.push(`${name} ${message}`),
  alert: ({ key }: { key: string }) => void alerts.push(key),
} as unknown as Announcer;
const recording = () => ({ layout: layout(), record, custody, announcer, config });
const events = () => [...custody.records()].map(({ event, detail }) => ({ event, detail }));

function configure(lines = ''): void {
  const path = join(directory, 'config.toml');
  writeFileSync(path, `[node]\nname = "alpha"\nstate_dir = "${directory}"\n${lines}`);
  config = loadConfig({ path, overrides: {} });
}
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-kept-'));
  makeStateDirectories(layout(), undefined);
  custody = CustodyLog.open(layout().custody);
  told = [];
  alerts = [];
  configure();
});
afterEach(() => {
  custody.close();
  rmSync(directory, { recursive: true });
});

const nameOf = (sequence: number) => `alpha-${String(sequence).padStart(6, '0')}-20261120T163000Z.tar.gz`;
const digest = 'ab'.repeat(32);

/** A bundle of so many bytes, as old as said, in the state directory and in the log. */
function make(sequence: number, choices: { bytes?: number; days?: number; severity?: Severity } = {}): void {
  custody.append('bundle-begun', { sequence });
  const path = join(layout().bundles, nameOf(sequence));
  writeFileSync(path, '');
  truncateSync(path, choices.bytes ?? 100);
  const made = new Date(now - (choices.days ?? 0) * day + sequence * 1000);
  utimesSync(path, made, made);
  writeFileSync(`${path}.sigstore.json`, '');
  const { severity = 'notice' } = choices;
  custody.append('bundle-made', { sequence, sha256: digest, signed: 'tpm', severity });
}

const receiptOf = (sequence: number, changes: object = {}): Receipt => ({
  kind: 'delivered',
  key: `alpha-bundle-${String(sequence).padStart(6, '0')}`,
  at: '2026-11-20T16:31:00.000Z',
  files: [
    {
      name: nameOf(sequence),
      where: `s3://evidence/alpha/${nameOf(sequence)}`,
      size: 100,
      sha256: digest,
      lock: { mode: 'COMPLIANCE', until: '2027-11-20T16:30:00.000Z' },
      ...changes,
    },
  ],
});
const leave = (receipt: Receipt) => writeReceipt(layout().receipts, receipt);

describe('a receipt of a delivery', () => {
  it('is recorded once: where, when, which content, under which lock', async () => {
    make(7);
    leave(receiptOf(7));
    expect(await recordReceipts(recording())).toBe(1);
    expect(events().at(-1)).toEqual({
      event: 'bundle-delivered',
      detail: {
        sequence: 7,
        where: `s3://evidence/alpha/${nameOf(7)}`,
        at: '2026-11-20T16:31:00.000Z',
        sha256: digest,
        lock: { mode: 'COMPLIANCE', until: '2027-11-20T16:30:00.000Z' },
        by: 'courier',
      },
    });
    expect(told).toEqual([expect.stringMatching(/^BUNDLE_DELIVERED /)]);
    leave(receiptOf(7));
    expect(await recordReceipts(recording())).toBe(0);
    expect(events().filter(({ event }) => event === 'bundle-delivered')).toHaveLength(1);
    expect(readdirSync(layout().receipts)).toEqual([]);
  });

  it('fills neither the log nor a look: a bundle lies at a few places, and the rest of many waits', async () => {
    for (let sequence = 1; sequence <= 9; sequence += 1) {
      make(sequence);
      for (let n = 0; n < 9; n += 1) {
        const receipt = receiptOf(sequence, { where: `s3://evidence/${n}` });
        writeFileSync(join(layout().receipts, `delivered-${sequence}-${n}.json`), JSON.stringify(receipt));
      }
    }
    expect(await recordReceipts(recording())).toBe(64);
    expect(await recordReceipts(recording())).toBe(8);
    expect(readdirSync(layout().receipts)).toEqual([]);
    expect(told.filter((line) => /^RECEIPT_REJECTED .*8 places already/.test(line))).toHaveLength(9);
  });

  it('names the place as a commitment, so that no bundle tells of a bucket', async () => {
    make(7);
    leave(receiptOf(7));
    await recordReceipts(recording());
    expect(readFileSync(layout().custody, 'utf8')).not.toContain('evidence/alpha');
  });

  it.each<[string, number, object]>([
    ['a bundle that was never made', 8, {}],
    ['another content than was made', 7, { sha256: 'cd'.repeat(32) }],
    ['a file that is none of ours', 7, { name: 'passwd' }],
    ['the name of another bundle', 7, { name: nameOf(8) }],
  ])('that tells of %s is refused, told, and recorded nowhere', async (_, sequence, changes) => {
    make(7);
    leave(receiptOf(sequence, changes));
    const before = custody.head();
    expect(await recordReceipts(recording())).toBe(0);
    expect(custody.head()).toEqual(before);
    expect(told).toEqual([expect.stringMatching(/^RECEIPT_REJECTED /)]);
    expect(readdirSync(layout().receipts)).toEqual([]);
  });

  it('is shown by `upload status`', async () => {
    make(7);
    leave(receiptOf(7));
    await recordReceipts(recording());
    expect(uploadsOf(config)).toMatchObject({ target: pathToFileURL(layout().bundles).href, stuck: null });
  });
});

describe('alerts that a courier gave up', () => {
  const givenUp = (at: number): Receipt => ({
    kind: 'given-up',
    key: `alpha-${at}`,
    at: '2026-11-20T16:31:00.000Z',
    channel: 'json-1',
    severity: 'error',
    why: 'It was refused.',
  });

  it('are recorded and told, once each', async () => {
    for (let round = 0; round < 2; round += 1) {
      leave(givenUp(1));
      await recordReceipts(recording());
    }
    expect(events()).toEqual([
      { event: 'alert-given-up', detail: expect.objectContaining({ key: 'alpha-1' }) },
    ]);
    expect(told).toEqual([expect.stringMatching(/^ALERT_GIVEN_UP .*json-1/)]);
  });

  it('are recorded again where they were given up again', async () => {
    leave(givenUp(1));
    await recordReceipts(recording());
    leave({ ...givenUp(1), at: '2026-11-27T16:31:00.000Z' });
    expect(await recordReceipts(recording())).toBe(1);
  });

  it('that wait stand in no delivery’s way, and cost no look into the log', async () => {
    const lately = new GivenUpLately();
    await lately.load(custody);
    for (let at = 0; at < 100; at += 1) {
      tellGivenUp({ key: `${at}`, channel: '', severity: 'error', why: 'size' }, { custody, lately });
    }
    const waiting = JSON.stringify(givenUp(0));
    for (let at = 0; at < 600; at += 1)
      writeFileSync(join(layout().receipts, `given-up-${at}.json`), waiting);
    writeFileSync(join(layout().receipts, 'delivered-in-disguise.json'), waiting);
    make(7);
    leave(receiptOf(7));
    expect(await recordReceipts(recording(), lately)).toBe(1);
    expect(events().at(-1)?.event).toBe('bundle-delivered');
    expect(told[0]).toMatch(/^RECEIPT_REJECTED .*of another kind/);
    expect(readdirSync(layout().receipts)).toHaveLength(600);
    custody.recall = () => Promise.reject(new Error('nothing is to be looked up'));
    expect(await recordReceipts(recording(), lately)).toBe(0);
  });

  it('cannot fill the log: a hundred in an hour, and the rest waits', async () => {
    for (let at = 0; at < 130; at += 1) leave(givenUp(at));
    expect(await recordReceipts(recording())).toBe(100);
    expect(await recordReceipts(recording())).toBe(0);
    expect(readdirSync(layout().receipts)).toHaveLength(30);
  });
});

describe('bundles that are kept', () => {
  const kept = () =>
    readdirSync(layout().bundles)
      .filter((name) => name.endsWith('.tar.gz'))
      .map((name) => Number(name.split('-')[1]));

  it('stay while they fit', async () => {
    for (const sequence of [1, 2, 3]) make(sequence);
    expect(await limitBundles(recording(), now + 10_000)).toEqual([]);
  });

  it('go by size: what was delivered, then the ordinary and old; the newest security event stays longest', async () => {
    make(1, { severity: 'critical' });
    make(2);
    make(3);
    make(4);
    make(5, { severity: 'critical' });
    leave(receiptOf(4));
    await recordReceipts(recording());
    const left = async (bytes: number) => {
      configure(`[forensics]\nkeep_bytes = ${bytes}\n`);
      await limitBundles(recording(), now + 10_000);
      return kept();
    };
    expect(await left(450)).toEqual([1, 2, 3, 5]);
    expect(await left(300)).toEqual([1, 3, 5]);
    expect(await left(100)).toEqual([5]);
    expect(await left(1)).toEqual([5]);
    const gone = events().filter(({ event }) => event === 'bundle-given-up');
    expect(gone.map(({ detail }) => [detail.sequence, detail.cause, detail.delivered])).toEqual([
      [4, 'size', true],
      [2, 'size', false],
      [3, 'size', false],
      [1, 'size', false],
    ]);
    expect(told.filter((line) => line.startsWith('BUNDLE_GIVEN_UP'))).toHaveLength(4);
    // What lies elsewhere is no loss.
    expect(alerts).toEqual([2, 3, 1].map((sequence) => `alpha-bundle-given-up-${sequence}`));
    expect(existsSync(join(layout().bundles, `${nameOf(2)}.sigstore.json`))).toBe(false);
  });

  it('go by age, but for a security event that was delivered nowhere', async () => {
    configure('[forensics]\nkeep_days = 30\n');
    make(1, { days: 40, severity: 'critical' });
    make(2, { days: 40 });
    make(3, { days: 40, severity: 'critical' });
    make(4);
    leave(receiptOf(3));
    await recordReceipts(recording());
    expect(await limitBundles(recording(), now)).toMatchObject([
      { name: nameOf(3), why: 'age', copied: true },
      { name: nameOf(2), why: 'age', copied: false },
    ]);
    expect(kept()).toEqual([1, 4]);
  });

  it('are missed where they were delivered, although they are given up here', async () => {
    for (const sequence of [1, 2, 3, 4]) make(sequence);
    leave(receiptOf(2));
    await recordReceipts(recording());
    const lost = (present: readonly number[]) => {
      const chain = checkChain(readFileSync(layout().custody));
      const members = present.map((sequence) => ({ sequence })) as unknown as Member[];
      return appraiseGaps(members, [{ name: 'the last', chain }]);
    };
    configure('[forensics]\nkeep_bytes = 200\n');
    await limitBundles(recording(), now + 10_000);
    expect(kept()).toEqual([3, 4]);
    expect(lost([1, 3, 4])).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(/^Bundle 2 was made, says record \d+, and is not here\.$/),
    });
    // Number 1 lay nowhere else.
    expect(lost([0, 2, 3, 4])).toMatchObject({ result: 'proven' });
  });

  it('above a limit by which none may go are not looked up in the log again, until something changes', async () => {
    configure('[forensics]\nkeep_bytes = 50\nkeep_days = 30\n');
    make(1, { days: 40, severity: 'critical' });
    let reads = 0;
    const counted = new Proxy(custody, {
      get: (log, name) => {
        if (name === 'recall') reads += 1;
        const member: unknown = Reflect.get(log, name);
        return typeof member === 'function' ? member.bind(log) : member;
      },
    });
    const settled = new Settled();
    const look = () => limitBundles({ ...recording(), custody: counted }, now + 10_000, settled);
    expect([await look(), await look(), await look()]).toEqual([[], [], []]);
    expect(reads).toBe(1);
    leave(receiptOf(1));
    await recordReceipts(recording());
    expect(await look()).toMatchObject([{ name: nameOf(1) }]);
  });

  it('that cannot be removed are recorded once, and in nothing’s way', async () => {
    configure('[forensics]\nkeep_bytes = 100\n');
    for (const sequence of [1, 2, 3]) make(sequence);
    const path = join(layout().bundles, nameOf(1));
    const old = () => utimesSync(path, new Date(now), new Date(now));
    rmSync(path);
    mkdirSync(path);
    old();
    for (let round = 0; round < 3; round += 1) {
      const limited = limitBundles(recording(), now + 10_000);
      await expect(limited).rejects.toThrow(/cannot be removed: alpha-000001-/);
    }
    const gone = () => events().filter(({ event }) => event === 'bundle-given-up');
    expect(gone().map(({ detail }) => detail.sequence)).toEqual([1, 2]);
    expect(alerts).toEqual(['alpha-bundle-given-up-2']);
    rmdirSync(path);
    writeFileSync(path, 'x'.repeat(100));
    old();
    expect(await limitBundles(recording(), now + 10_000)).toMatchObject([{ name: nameOf(1) }]);
    expect(gone()).toHaveLength(2);
    expect(kept()).toEqual([3]);
    expect(alerts).toHaveLength(2);
  });

  it('are not touched while they are being made', async () => {
    configure('[forensics]\nkeep_bytes = 1\n');
    make(1);
    writeFileSync(join(layout().bundles, nameOf(2)), 'half');
    custody.append('bundle-begun', { sequence: 2 });
    await limitBundles(recording(), now);
    expect(kept()).toEqual([1, 2]);
  });
});

describe('alerts in the spool', () => {
  const alert = (key: string, severity: Severity): Alert => ({
    key,
    node: 'alpha',
    severity,
    title: 'title',
    body: 'x'.repeat(500),
    time: '2026-11-20T16:30:00.000Z',
    facts: {},
  });
  const left = () =>
    takeJobs(layout().spool).map(({ job }) => (job.kind === 'alert' ? job.alert.key : job.key));

  it('go by size and by age, each recorded and told; bundles stay', async () => {
    configure('[courier]\nspool_bytes = 1500\nspool_days = 30\n');
    const drop = (key: string, severity: Severity, at: number) =>
      dropJob(layout().spool, { kind: 'alert', alert: alert(key, severity) }, () => at);
    const today = Date.now();
    drop('old', 'notice', today - 40 * day);
    drop('old-and-critical', 'critical', today - 40 * day);
    for (const key of ['a', 'b', 'c']) drop(key, 'warning', today);
    dropJob(
      layout().spool,
      { kind: 'bundle', key: 'alpha-bundle-000007', payload: {} },
      () => today - 40 * day,
    );
    await keepHouse(recording());
    expect(left()).toEqual(['old-and-critical', 'alpha-bundle-000007', 'c']);
    const given = events().filter(({ event }) => event === 'alert-given-up');
    expect(given.map(({ detail }) => detail.key)).toEqual(['old', 'a', 'b']);
    expect(given.map(({ detail }) => detail.why)).toEqual(
      ['age', 'size', 'size'].map((what) => `Given up because of its ${what}, by the limits of the spool.`),
    );
    expect(told).toHaveLength(3);
    await keepHouse(recording());
    expect(told).toHaveLength(3);
  });

  it('cannot fill the log either: a hundred in an hour go, and the rest waits', async () => {
    configure('[courier]\nspool_bytes = 1\n');
    for (let at = 0; at < 130; at += 1) {
      dropJob(layout().spool, { kind: 'alert', alert: alert(`alpha-${at}`, 'warning') });
    }
    for (let round = 0; round < 2; round += 1) await keepHouse(recording());
    expect(events()).toHaveLength(100);
    expect(left()).toEqual(Array.from({ length: 30 }, (_, at) => `alpha-${at + 100}`));
  });

  it('are limited without a look into a file: the directory is the courier’s', async () => {
    configure('[courier]\nspool_bytes = 10\n');
    const name = (code: number, key: string) => `000000000000001-1-1-alert-${code}.${key}.json`;
    for (const file of [name(4, 'strange'), name(2, 'worse')]) {
      writeFileSync(join(layout().spool, file), 'not JSON at all');
    }
    execFileSync('mkfifo', [join(layout().spool, name(4, 'fifo'))]);
    symlinkSync('/dev/zero', join(layout().spool, name(4, 'link')));
    await keepHouse(recording());
    expect(events().map(({ detail }) => detail.key)).toEqual(['strange']);
    expect(readdirSync(layout().spool)).toHaveLength(3);
  });
});
