// The audit of redaction: it holds for what the redactor did, and for nothing that somebody else did.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RedactionAudit } from '../../src/forensics/audit.ts';
import { type RedactionForm, type RedactionRecord, Redactor } from '../../src/forensics/redact.ts';
import { longestValue } from '../../src/forensics/redact-journal.ts';
import { exportEntries } from '../../src/journal/export.ts';
import { type ExportFields, exported, journalEntry } from '../lab/export.ts';
import { caseKey, rules } from './sample.ts';

const redactor = new Redactor({ rules, hosts: ['alpha.example'], key: caseKey });
const audit = new RedactionAudit(caseKey, rules);
const key = Buffer.alloc(32, 9).toString('base64');

function redact(given: Uint8Array, form: RedactionForm = 'text') {
  const stream = redactor.stream(form);
  const bytes = Buffer.concat([Buffer.from(stream.write(given)), stream.end()]);
  return { bytes, records: stream.takeRecords() };
}
const auditJournal = (original: Uint8Array, redacted: Uint8Array, records: readonly RedactionRecord[]) =>
  audit.journal(exportEntries([original]), exportEntries([redacted]), records);

const text = Buffer.from(
  `peer 10.0.0.1 of Alpha.Example\nPrivateKey = ${key}\npassword=x https://u:pw@h/\nfe80::1 02:42:ac:11:00:02\n‹ip:00000000›\n`,
);

describe('the audit of a text', () => {
  it('holds for what was redacted, and counts it', () => {
    const { bytes, records } = redact(text);
    expect(audit.text(text, bytes, records)).toEqual({ redactions: records.length, problems: [] });
    expect(records.length).toBeGreaterThanOrEqual(7);
    expect(audit.text(Buffer.from('quiet'), Buffer.from('quiet'), [])).toEqual({
      redactions: 0,
      problems: [],
    });
  });

  it('holds for any text', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '10.0.0.1',
        `PrivateKey = ${key}`,
        'fe80::1',
        '\n',
        'alpha.example',
        '‹ip:00000000›',
        ' ',
      ),
      fc.string({ maxLength: 20 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
        const given = Buffer.from(pieces.join(''));
        const { bytes, records } = redact(given);
        expect(audit.text(given, bytes, records)).toEqual({ redactions: records.length, problems: [] });
      }),
      { numRuns: 200 },
    );
  });

  it('finds every byte that was changed in the member', () => {
    const { bytes, records } = redact(text);
    for (let at = 0; at < bytes.length; at += 1) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(audit.text(text, changed, records).problems, `byte ${at}`).toHaveLength(1);
    }
  });

  it('finds every byte by which the original differs, but for capitals in names', () => {
    const { bytes, records } = redact(text);
    for (let at = 0; at < text.length; at += 1) {
      const changed = Buffer.from(text);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(audit.text(changed, bytes, records).problems, `byte ${at}`).toHaveLength(1);
    }
  });

  it('finds what was taken away under a pseudonym that is right but for its rule or its record', () => {
    const { bytes, records } = redact(text);
    const problem = (changed: readonly RedactionRecord[]) => audit.text(text, bytes, changed).problems[0];
    const other = (rule: string) => records.map((record, at) => (at === 0 ? { ...record, rule } : record));
    expect(problem(other('ipv6-address'))).toMatch(/rule ipv6-address does not find/);
    expect(problem(other('password'))).toMatch(/of kind credential, the pseudonym of kind ip/);
    expect(problem(other('unheard-of'))).toMatch(/unheard-of is not in the policy/);
    expect(problem(records.slice(1))).toMatch(/is not recorded/);
    expect(problem([...records, ...records])).toMatch(/14 redactions|redactions are recorded/);
    // Made with the case key, but of a sentence that no rule describes.
    const hmac = redactor.hmac('ip', 'transferred');
    const forged = Buffer.from(`funds were ‹ip:${hmac.slice(0, 8)}› at noon`);
    const record = { line: 1, rule: 'ipv4-address', hmac };
    expect(audit.text(Buffer.from('funds were transferred at noon'), forged, [record]).problems).toEqual([
      expect.stringMatching(/rule ipv4-address does not find what the original has there/),
    ]);
  });

  it('tells no original in what it finds', () => {
    const { bytes } = redact(text);
    const { problems } = audit.text(text, bytes, []);
    expect(problems.join()).not.toMatch(/10\.0|Alpha|pw/);
  });
});

describe('the audit of a journal', () => {
  const entries: ExportFields[] = Array.from({ length: 6 }, (_, n) =>
    journalEntry(n, [
      ['_HOSTNAME', 'alpha.example'],
      ['MESSAGE', n % 2 === 0 ? `peer 10.0.0.${n}\nPrivateKey = ${key}\n` : 'quiet'],
      ['BLOB', Uint8Array.of(0, n, 0x0a, 255)],
    ]),
  );
  const original = exported(entries);

  it('holds for what was redacted, and where the original has more entries', async () => {
    const { bytes, records } = redact(exported(entries.slice(1, 5)), 'journal');
    expect(await auditJournal(original, bytes, records)).toEqual({
      redactions: 8,
      entries: { compared: 4, skipped: 1 },
      problems: [],
    });
  });

  it('finds an entry that was added, left out of the original or moved', async () => {
    const { bytes, records } = redact(original, 'journal');
    const missing = await auditJournal(exported(entries.slice(0, 5)), bytes, records);
    expect(missing.problems[0]).toMatch(/^Entry 6 \(s=.*\) is not in the original/);
    const [first, second, ...others] = entries as [ExportFields, ExportFields, ...ExportFields[]];
    const moved = redact(exported([second, first, ...others]), 'journal');
    expect((await auditJournal(original, moved.bytes, moved.records)).problems[0]).toMatch(
      /not in this order/,
    );
  });

  it('finds a field that was changed, renamed, added or taken away', async () => {
    const problems = async (change: (fields: ExportFields[number][]) => ExportFields) => {
      const changed = entries.map((fields, n) => (n === 3 ? change([...fields]) : fields));
      const { bytes, records } = redact(exported(changed), 'journal');
      return (await auditJournal(original, bytes, records)).problems.join(' ');
    };
    expect(await problems((fields) => fields)).toBe('');
    expect(
      await problems((fields) => fields.map(([name, value]) => [name, name === 'MESSAGE' ? 'quite' : value])),
    ).toMatch(/Entry 4, MESSAGE: the text differs from the original at its byte/);
    expect(
      await problems((fields) => fields.map(([name, value]) => [name === 'BLOB' ? 'BLOT' : name, value])),
    ).toMatch(/Entry 4: field 7 is BLOT, in the original BLOB/);
    expect(await problems((fields) => [...fields, ['NEW', 'x']])).toMatch(
      /Entry 4 has 8 fields, its original 7/,
    );
    expect(await problems((fields) => fields.slice(0, -1))).toMatch(/Entry 4 has 6 fields, its original 7/);
  });

  it('finds a record that is of another entry, field or place', async () => {
    const { bytes, records } = redact(original, 'journal');
    expect((await auditJournal(original, bytes, records)).problems).toEqual([]);
    for (const at of records.keys()) {
      const without = records.filter((_, index) => index !== at);
      expect((await auditJournal(original, bytes, without)).problems.length).toBeGreaterThan(0);
    }
  });

  it('holds for a value that was replaced as a whole', async () => {
    const long = exported([journalEntry(0, [['MESSAGE', 'x'.repeat(longestValue + 1)]])]);
    const { bytes, records } = redact(long, 'journal');
    expect(await auditJournal(long, bytes, records)).toMatchObject({ redactions: 1, problems: [] });
  });
});
