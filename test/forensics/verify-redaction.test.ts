// `verify` with the key of the case, of members and records that are larger than what is kept in memory.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { VerifyReport } from '../../src/forensics/claims.ts';
import type { Collector } from '../../src/forensics/collect.ts';
import { encodeManifest, sigstoreName } from '../../src/forensics/format.ts';
import { Redactor } from '../../src/forensics/redact.ts';
import { verifyBundle } from '../../src/forensics/verify.ts';
import { defaultVerifyPolicy } from '../../src/forensics/verify-policy.ts';
import { exported, journalEntry } from '../lab/export.ts';
import { esoteric } from '../lab/node.ts';
import { appraisers, caseKey, compareRecords, makeSample, rules, type Sample } from './sample.ts';

const scratch = mkdtempSync(join(tmpdir(), 'ea-verify-redaction-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Far less than the members have, and more than manifest, custody log and event log. */
const kept = 200_000;
const entries = 4000;

const collector = (path: string, form: Collector['form'], bytes: Uint8Array): Collector => ({
  name: path,
  path,
  source: 'the test',
  volatility: 'disk',
  limitBytes: 1 << 24,
  redact: true,
  ...(form === undefined ? {} : { form }),
  gather: async () => bytes,
});

const filler = 'nothing that is to be replaced '.repeat(8);
const journal = exported(
  Array.from({ length: entries }, (_, at) =>
    journalEntry(at, [
      ['_HOSTNAME', 'alpha.example'],
      ['MESSAGE', at % 400 === 0 ? `from 10.0.0.1\n${filler}` : `${at} ${filler}`],
    ]),
  ),
);
const text = Buffer.from(`${filler}\n`.repeat(entries).concat('10.0.0.1 at the end\n'));

let sample: Sample;
beforeAll(async () => {
  sample = await makeSample(scratch, {
    collectors: [
      collector('journal/entries.export', 'journal', journal),
      collector('host/long.txt', undefined, text),
    ],
  });
});

const verify = (archive: Uint8Array | (() => AsyncIterable<Uint8Array>), keptBytes = kept) => {
  const { limits } = defaultVerifyPolicy;
  const policy = { ...defaultVerifyPolicy, limits: { ...limits, keptBytes } };
  const { sigstoreBundle, enrolment } = sample;
  return verifyBundle(
    { archive, sigstoreBundle, enrolment, trustedRoot: null, policy, allowBypassed: true, caseKey },
    appraisers,
  );
};
const of = ({ claims }: VerifyReport, name: string) => claims.find(({ claim }) => claim === name);
const failures = ({ claims }: VerifyReport) => claims.filter(({ result }) => result === 'failed');

/** Bytes for all that is kept, but the last: the records of the journal. */
const tooLittle = (): number =>
  sample.manifest.files
    .filter(({ path }) => /^(custody|evidence|redaction)\//.test(path))
    .reduce((sum, { size }) => sum + size, encodeManifest(sample.manifest).length) - 1;

describe('redacted members that are larger than is kept in memory', () => {
  it('are held against their records as they pass', async () => {
    expect(journal.length + text.length).toBeGreaterThan(5 * kept);
    const report = await verify(sample.archive);
    expect(failures(report)).toEqual([]);
    expect(of(report, 'redaction')).toEqual({
      claim: 'redaction',
      result: 'proven',
      detail: `All ${4 + entries + 10 + 1} redactions in 3 files are recorded, under the key of this case.`,
    });
  });

  it('are verified as without the key where their records are too large as well: redaction alone is not proven', async () => {
    const report = await verify(sample.archive, tooLittle());
    expect(failures(report)).toEqual([]);
    expect(of(report, 'manifest')?.result).toBe('proven');
    expect(of(report, 'redaction')).toMatchObject({
      result: 'not-proven',
      detail: expect.stringMatching(/in journal\/entries\.export are too large to look at, .*`kept_bytes`/),
    });
  });

  it('say so in --json and --explain, and with status 3 unless the policy allows it', async () => {
    const key = join(scratch, 'case.key');
    writeFileSync(key, caseKey);
    writeFileSync(sigstoreName(sample.path), JSON.stringify(sample.sigstoreBundle));
    const ask = async (keptBytes: number, ...more: string[]) => {
      const policy = join(scratch, 'verify.toml');
      writeFileSync(policy, `[limits]\nkept_bytes = ${keptBytes}\n`);
      return await esoteric(['verify', sample.path, '--case-key', key, '--policy', policy, ...more]);
    };
    const json = await ask(tooLittle(), '--json', '--explain', 'redaction');
    const { claims, explanation } = JSON.parse(json.stdout.toString()) as VerifyReport & {
      explanation: { claim: string; needs: string };
    };
    const claim = claims.find((each) => each.claim === 'redaction');
    expect(claim?.detail, json.stdout.toString()).toContain('kept_bytes');
    expect(claims.filter(({ result }) => result === 'failed')).toEqual([]);
    expect(explanation).toMatchObject({ claim: 'redaction', needs: expect.stringContaining('kept_bytes') });
    expect(json.status).toBe(3);
    const shown = await ask(kept);
    expect(shown.stdout.toString()).toMatch(/redaction .*All \d+ redactions/);
  }, 60_000);

  it('fail where the archive is another when it is read again', async () => {
    const other = await makeSample(mkdtempSync(join(scratch, 'other-')));
    let opened = 0;
    async function* archive(): AsyncGenerator<Uint8Array> {
      opened += 1;
      yield opened === 1 ? sample.archive : other.archive;
    }
    const report = await verify(archive);
    expect(failures(report)).toMatchObject([
      { claim: 'redaction', detail: 'The archive was changed while it was verified.' },
    ]);
    opened = 0;
    async function* gone(): AsyncGenerator<Uint8Array> {
      opened += 1;
      if (opened > 1) throw new Error('the disk is gone');
      yield sample.archive;
    }
    expect(of(await verify(gone), 'redaction')?.detail).toContain('could not be read a second time');
  });
});

describe('records of redaction', () => {
  const lines = (records: readonly object[]) =>
    Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  const redactor = new Redactor({ rules, hosts: ['alpha.example'], key: caseKey });
  function redact(form: 'text' | 'journal', bytes: Uint8Array) {
    const stream = redactor.stream(form);
    const member = Buffer.concat([Buffer.from(stream.write(bytes)), Buffer.from(stream.end())]);
    return { member, records: stream.takeRecords() };
  }

  it('of a text agree wherever it is divided', () => {
    const { member, records } = redact('text', Buffer.from('10.0.0.1 ‹ip:\n\n‹x fe80::1\n10.0.0.2‹'));
    expect(records).toHaveLength(3);
    for (let chunk = 1; chunk <= member.length; chunk += 1)
      expect(compareRecords(member, lines(records), [], chunk), `in pieces of ${chunk}`).toBeUndefined();
    for (let chunk = 1; chunk <= member.length; chunk += 1) {
      expect(compareRecords(member, lines(records.slice(1)), [], chunk)).toMatch(/line 1 is not/);
      expect(compareRecords(member, lines(records.slice(0, -1)), [], chunk)).toBe(
        '2 redactions are recorded, 3 are there.',
      );
    }
  });

  it('of a journal agree wherever it is divided, and tell the entry that does not', () => {
    const given = exported([
      [['MESSAGE', 'from 10.0.0.1\nto alpha.example']],
      [['MESSAGE', 'quiet']],
      [['MESSAGE', 'fe80::1']],
    ]);
    const { member, records } = redact('journal', given);
    const moved = JSON.parse(JSON.stringify(records).replace('[3,3]', '[2,2]')) as object[];
    for (let chunk = 1; chunk <= member.length; chunk += 1) {
      expect(compareRecords(member, lines(records), [], chunk), `in pieces of ${chunk}`).toBeUndefined();
      expect(compareRecords(member, lines(moved), [], chunk)).toBe(
        'the pseudonym in MESSAGE of entry 3 is not the recorded one.',
      );
    }
    expect(compareRecords(member.subarray(0, -3), lines(records), [])).toMatch(/cut short behind byte/);
  });

  it('of a journal that is none, or has a field that no bundle has, fail without a word of the parser’s', () => {
    const { records } = redact('journal', exported([[['MESSAGE', '10.0.0.1']]]));
    expect(compareRecords(Buffer.from('=\n'), lines(records), [])).toMatch(/cannot be read \(.*malformed/);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(1n << 40n);
    const endless = Buffer.concat([Buffer.from('MESSAGE\n'), length, Buffer.from('x')]);
    expect(compareRecords(endless, lines(records), [])).toMatch(/field at byte 0 is longer than any/);
    expect(compareRecords(Buffer.from('x'), Buffer.from('no JSON\n'), [])).toMatch(
      /records of redaction cannot/,
    );
  });
});
