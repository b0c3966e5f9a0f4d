// The directory of receipts belongs to a process with less privilege than its reader: everything that can lie there.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Receipt, takeReceipts, writeReceipt } from '../../src/alerts/receipts.ts';
import { parseUploadUrl } from '../../src/forensics/deliver.ts';
import { s3Address } from '../../src/forensics/upload-target.ts';
import { Failure } from '../../src/host/failure.ts';

let directory: string;
let rejected: string[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-receipts-'));
  rejected = [];
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const delivered: Receipt = {
  kind: 'delivered',
  key: 'alpha-bundle-000007',
  at: '2026-11-20T16:30:00.000Z',
  files: [
    {
      name: 'alpha-000007-20261120T163000Z.tar.gz',
      where: 's3://evidence/alpha/alpha-000007-20261120T163000Z.tar.gz',
      size: 17,
      sha256: 'ab'.repeat(32),
      version: '3/L4kqtJlcpXroDTDmJ',
      lock: { mode: 'COMPLIANCE', until: '2027-11-20T16:30:00.000Z' },
    },
  ],
};
const take = () => takeReceipts(directory, (file, why) => rejected.push(`${file}: ${why}`));

describe('a receipt', () => {
  it('is taken as it was written, stays until it is recorded, and one about the same replaces it', () => {
    const givenUp: Receipt = {
      kind: 'given-up',
      key: 'alpha-zeroize-6',
      at: delivered.at,
      channel: 'json-1',
      severity: 'critical',
      why: 'It was refused.',
    };
    for (const receipt of [delivered, delivered, givenUp]) writeReceipt(directory, receipt);
    expect(take().map(({ receipt }) => receipt)).toEqual([delivered, givenUp]);
    for (const { done } of take()) done();
    expect(readdirSync(directory)).toEqual([]);
    expect(rejected).toEqual([]);
  });

  it('names any place in S3, as an address that leads there', () => {
    const place = parseUploadUrl('s3://evidence/Zürich & Genf/%3F%23%25/100%25');
    if (place.kind !== 's3') throw new Error('s3 was asked for');
    const key = `${place.prefix}/${'é'.repeat(480)}.tar.gz`;
    const where = s3Address(place.bucket, key);
    const files = delivered.kind === 'delivered' ? delivered.files.map((file) => ({ ...file, where })) : [];
    writeReceipt(directory, { ...delivered, files } as Receipt);
    expect(take().map(({ receipt }) => receipt)).toEqual([expect.objectContaining({ files })]);
    expect(parseUploadUrl(where)).toMatchObject({ bucket: 'evidence', prefix: key });
  });

  it('that cannot be written says so in a sentence', () => {
    const broken = { ...delivered, key: 'no key' } as Receipt;
    expect(() => writeReceipt(directory, broken)).toThrow(
      expect.objectContaining({ code: 'receipt-unwritable', message: expect.stringMatching(/key/) }),
    );
    writeFileSync(join(directory, 'file'), '');
    expect(() => writeReceipt(join(directory, 'file'), delivered)).toThrow(Failure);
  });

  it('is looked for in vain where there is no directory', () => {
    rmSync(directory, { recursive: true });
    expect(take()).toEqual([]);
  });
});

describe('what is no receipt goes away, is told, and does no harm:', () => {
  const text = JSON.stringify(delivered);
  it.each<[string, string | Buffer, RegExp]>([
    ['no JSON', 'x', /JSON/],
    ['another form', '{}', /Invalid/i],
    ['a member more', text.replace('{', '{"more":1,'), /more/],
    ['a place with parameters', text.replace('Z.tar.gz","size', 'Z.tar.gz?secret=1","size'), /where/],
    ['a digest that is none', text.replace('abab', 'ABAB'), /sha256/],
    ['more than a receipt can be', Buffer.alloc(20_000, 0x20), /larger than 16384/],
    ['nothing', '', /JSON/],
  ])('%s', (_, content, why) => {
    writeFileSync(join(directory, 'a.json'), content);
    expect(take()).toEqual([]);
    expect(rejected).toEqual([expect.stringMatching(why)]);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('a link, which is not followed, whatever it leads to', () => {
    const victim = join(directory, 'victim');
    writeFileSync(victim, text);
    symlinkSync(victim, join(directory, 'a.json'));
    symlinkSync('/dev/zero', join(directory, 'b.json'));
    symlinkSync('/nowhere', join(directory, 'c.json'));
    expect(take()).toEqual([]);
    expect(rejected).toHaveLength(3);
    expect(existsSync(victim)).toBe(true);
    expect(readdirSync(directory)).toEqual(['victim']);
  });

  it('a FIFO, which is not waited for', () => {
    execFileSync('mkfifo', [join(directory, 'a.json')]);
    expect(take()).toEqual([]);
    expect(rejected).toEqual([expect.stringMatching(/not a regular file/)]);
  });

  it('a directory, which stays and is in nobody’s way', () => {
    mkdirSync(join(directory, 'a.json'));
    writeReceipt(directory, delivered);
    expect(take()).toHaveLength(1);
    expect(rejected).toEqual([]);
  });

  it('a flood, of which one look takes a part', () => {
    for (let at = 0; at < 700; at += 1) writeFileSync(join(directory, `${at}.json`), 'x');
    take();
    expect(rejected.length).toBeLessThanOrEqual(512);
    take();
    expect(readdirSync(directory)).toEqual([]);
  });
});
