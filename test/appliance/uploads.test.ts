// Deliveries as the operator sees and hastens them: a real outbox and spool in a directory.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Outbox } from '../../src/alerts/outbox.ts';
import { writeReceipt } from '../../src/alerts/receipts.ts';
import { dropJob } from '../../src/alerts/spool.ts';
import { loadConfig } from '../../src/appliance/config.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import { retryUploads, uploadsOf } from '../../src/appliance/uploads.ts';

let directory: string;
const config = () => {
  const path = join(directory, 'config.toml');
  writeFileSync(path, `[node]\nname = "alpha"\nstate_dir = "${directory}"\n`);
  return loadConfig({ path, overrides: {} });
};
const key = 'alpha-bundle-000007';
const job = { kind: 'bundle', key, payload: { upload: 's3://evidence/x' } } as const;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-uploads-'));
  const { spool, uploads } = stateLayout(directory);
  mkdirSync(spool);
  mkdirSync(uploads, { recursive: true });
});
afterEach(() => rmSync(directory, { recursive: true }));

it('there is nothing where no courier has run', () => {
  expect(uploadsOf(config())).toMatchObject({ bundles: [], spooled: 0, stuck: null });
  expect(retryUploads(config())).toEqual({ due: 0 });
});

it('a bundle in the spool is counted before a courier takes it', () => {
  dropJob(stateLayout(directory).spool, job);
  expect(uploadsOf(config())).toMatchObject({ bundles: [], spooled: 1 });
});

it('one that failed is shown with its reason, its parts and its next attempt, which retry brings forward', () => {
  const { outbox: path, uploads } = stateLayout(directory);
  using outbox = new Outbox(path, Date.now, { random: () => 0.99 });
  outbox.enqueue(job, { ...job, key: 'alpha-bundle-000008' });
  const [failed, other] = outbox.due(Date.now());
  outbox.failed(failed?.id ?? 0, 'The store is full.');
  outbox.delivered(other?.id ?? 0);
  writeFileSync(
    join(uploads, 'alpha-000007-20261120T100000Z.tar.gz.parts.json'),
    JSON.stringify({ parts: [{}, {}] }),
  );
  const shown = uploadsOf(config()).bundles;
  expect(shown.map(({ state }) => state)).toEqual(['delivered', 'queued']);
  expect(shown[1]).toMatchObject({ key, attempts: 1, partsSent: 2, error: 'The store is full.' });
  expect(Date.parse(shown[1]?.nextAttempt ?? '')).toBeGreaterThan(Date.now());
  expect(outbox.due(Date.now())).toEqual([]);
  expect(retryUploads(config())).toEqual({ due: 1 });
  expect(outbox.due(Date.now()).map((due) => due.key)).toEqual([key]);
});

it('one goes where the configuration says now, unless it was told where, or is told so by retry', () => {
  using outbox = new Outbox(stateLayout(directory).outbox);
  const upload = 's3://evidence/asked';
  outbox.enqueue(
    { ...job, payload: { upload: 's3://evidence/mistyped', configured: true } },
    { ...job, key: 'alpha-bundle-000008', payload: { upload, configured: false } },
  );
  const corrected = config();
  corrected.forensics.upload = 's3://evidence/now?region=eu-central-1';
  const targets = () => uploadsOf(corrected).bundles.map(({ target }) => target);
  expect(targets()).toEqual([upload, 's3://evidence/now']);
  expect(() => retryUploads(corrected, { elsewhere: 'ftp://x' })).toThrow(/ftp:/);
  expect(targets()).toEqual([upload, 's3://evidence/now']);
  expect(retryUploads(corrected, { elsewhere: 'file:///mnt/stick' })).toEqual({ due: 2 });
  expect(targets()).toEqual(['file:///mnt/stick', 'file:///mnt/stick']);
});

it.each([
  ['s3://evidence/x?endpoint=http://10.0.0.7:9000', [], true],
  ['s3://evidence/x?endpoint=http://[2001:db8::7]:9000', [], true],
  ['s3://evidence/x?endpoint=http://10.0.0.7:9000', ['age1…'], false],
  ['s3://evidence/x?endpoint=http://127.0.0.1:9000', [], false],
  ['s3://evidence/x?endpoint=http://[::1]:9000', [], false],
  ['s3://evidence/x?endpoint=https://s3.example.org', [], false],
  ['s3://evidence/x', [], false],
  ['file:///mnt/stick', [], false],
  ['', [], false],
])('whether bundles go in clear is told: %s to %j', (upload, recipients, inClear) => {
  const { forensics, ...rest } = config();
  expect(uploadsOf({ ...rest, forensics: { ...forensics, upload, recipients } })).toMatchObject({ inClear });
});

it('one whose receipt no node has taken yet is shown so', () => {
  const { outbox: path, receipts } = stateLayout(directory);
  using outbox = new Outbox(path);
  outbox.enqueue(job);
  outbox.delivered(outbox.due(Date.now())[0]?.id ?? 0);
  expect(uploadsOf(config()).bundles[0]).toMatchObject({ delivered: null, receiptWaits: false });
  const file = { name: 'a', where: 's3://evidence/a', size: 1, sha256: 'a'.repeat(64) };
  writeReceipt(receipts, { kind: 'delivered', key, at: '2026-11-20T10:00:00Z', files: [file] });
  expect(uploadsOf(config()).bundles[0]).toMatchObject({ delivered: null, receiptWaits: true });
});
