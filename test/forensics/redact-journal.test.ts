// Redaction in the Journal Export Format: field by field, importable as before, and every replacement recorded with its place.
import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type JournalRedactionRecord, Redactor, replacements } from '../../src/forensics/redact.ts';
import { longestValue } from '../../src/forensics/redact-journal.ts';
import { pseudonymsInValue } from '../../src/forensics/redaction-records.ts';
import { requireChild } from '../../src/host/child.ts';
import { parseExport } from '../../src/journal/export.ts';
import { importerMissing, importJournal } from '../../src/journal/import.ts';
import { exported, journalEntry } from '../lab/export.ts';
import { caseKey, compareRecords, rules } from './sample.ts';

const redactor = new Redactor({ rules, hosts: ['alpha.example'], key: caseKey });
const key = Buffer.alloc(32, 9).toString('base64');

function redact(bytes: Uint8Array, chunk = Number.POSITIVE_INFINITY, by = redactor) {
  const stream = by.stream('journal');
  const out: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += chunk)
    out.push(Buffer.from(stream.write(bytes.subarray(at, at + chunk))));
  out.push(stream.end());
  return { bytes: Buffer.concat(out), records: stream.takeRecords() as JournalRedactionRecord[] };
}
type Fields = readonly (readonly [name: string, value: string | Uint8Array])[];
const fieldsOf = (bytes: Uint8Array) =>
  parseExport(bytes).map((entry) =>
    entry.map(({ name, value }) => [name, Buffer.from(value).toString('latin1')]),
  );

/** What a rule is for, always the same. */
const drawn = (sample: string): string =>
  sample.replace(/<<|>>/g, '').replace(/\{([a-z0-9]+):(\d+)\}/g, (_, alphabet: string, length: string) => {
    const bytes = Buffer.alloc(Number(length), 1);
    if (alphabet === 'hex' || alphabet === 'base64') return bytes.toString(alphabet);
    return (alphabet === 'digits' ? '1' : 'A').repeat(bytes.length);
  });

/** What is to come out of one field, by the rules for text, which see it between its line breaks. */
function alone(name: string, value: Uint8Array): string {
  const stream = redactor.stream();
  const line = Buffer.concat([Buffer.from(`\n${name}=`), value, Buffer.from('\n')]);
  const text = Buffer.concat([stream.write(line), stream.end()]).toString('latin1');
  return text.slice(name.length + 2, -1);
}

describe('a journal', () => {
  it('is redacted within its values; names stay, and lengths are written anew', () => {
    const secret = `wg0:\nPrivateKey = ${key}\n`;
    const { bytes } = redact(
      exported([
        [
          ['MESSAGE', 'from 10.0.0.1 to alpha.example'],
          ['_HOSTNAME', 'alpha.example'],
          ['CONF', secret],
        ],
      ]),
    );
    const [[message, host, conf] = []] = fieldsOf(bytes);
    expect(message?.[1]).toMatch(/^from \xe2\x80\xb9ip:[0-9a-f]{8}\xe2\x80\xba to \xe2\x80\xb9host:/);
    expect(host?.[0]).toBe('_HOSTNAME');
    expect(conf?.[1]).toMatch(/^wg0:\nPrivateKey = \xe2\x80\xb9key:[0-9a-f]{8}\xe2\x80\xba\n$/);
  });

  it('shows a rule the name of the field, which it never replaces', () => {
    const { bytes, records } = redact(
      exported([
        [
          ['PASS_PHRASES', 'hunter2'],
          ['PASSWORD', 'hunter2'],
          ['API_KEY', 'one\ntwo'],
        ],
      ]),
    );
    const [[, password, api] = []] = fieldsOf(bytes);
    expect(password).toEqual(['PASSWORD', expect.stringMatching(/^\xe2\x80\xb9credential:[^ ]+$/)]);
    expect(api?.[1]).toMatch(/^\xe2\x80\xb9credential:.*\ntwo$/s);
    expect(records.map(({ field }) => field)).toEqual(['PASSWORD', 'API_KEY']);
  });

  it('has no match that spans fields', () => {
    const entries = exported([
      [
        ['A', '-----BEGIN PRIVATE KEY-----'],
        ['B', 'x password'],
        ['C', '= MHcCAQEE'],
        ['D', '-----END PRIVATE KEY-----'],
      ],
    ]);
    const { bytes, records } = redact(entries);
    expect(records.map(({ field, rule }) => [field, rule])).toEqual([['A', 'private-key-pem']]);
    expect(fieldsOf(bytes)[0]?.slice(1)).toEqual(fieldsOf(entries)[0]?.slice(1));
  });

  it('keeps what places its entries, but not what only pretends to', () => {
    const address: Fields = [
      ['__CURSOR', 's=0123456789abcdef0123456789abcdef;i=1;b=10;m=1;t=1;x=1'],
      ['__REALTIME_TIMESTAMP', '1700000000000000'],
      ['_BOOT_ID', '0123456789abcdef0123456789abcdef'],
      ['_SOURCE_REALTIME_TIMESTAMP', '1700000000000001'],
    ];
    const anything = new Redactor({
      rules: [{ name: 'all', kind: 'any', pattern: '[0-9a-f]+', sample: '<<{hex:8}>>' }],
      key: caseKey,
    });
    const kept = redact(exported([address]), undefined, anything);
    expect(kept.records).toEqual([]);
    const others: Fields = ['__CURSOR', '_SOURCE_REALTIME_TIMESTAMP', '_SOURCE_HOST'].map((name) => [
      name,
      '17 of 10.0.0.1',
    ]);
    expect(redact(exported([others])).records.map(({ field, rule }) => [field, rule])).toEqual(
      others.map(([name]) => [name, 'ipv4-address']),
    );
  });

  it('records what comes again in entry after entry once', () => {
    const entries: Fields[] = [1, 2, 3, 4].map((n) => [
      ['_HOSTNAME', 'alpha.example'],
      ['MESSAGE', n === 2 ? 'from 10.0.0.1, 10.0.0.1' : 'quiet'],
      ['BINARY', `${n === 4 ? 'fe80::1' : ''}\n`],
    ]);
    const { records, bytes } = redact(exported(entries));
    expect(
      records.map(({ hmac: _, ...place }) => place).sort((a, b) => (a.field < b.field ? -1 : 1)),
    ).toEqual([
      { entries: [4, 4], field: 'BINARY', nth: 1, rule: 'ipv6-address' },
      { entries: [2, 2], field: 'MESSAGE', nth: 1, rule: 'ipv4-address' },
      { entries: [2, 2], field: 'MESSAGE', nth: 2, rule: 'ipv4-address' },
      { entries: [1, 4], field: '_HOSTNAME', nth: 1, rule: 'host-name' },
    ]);
    const lines = Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
    expect(compareRecords(bytes, lines, [{ rule: 'host-name', count: 4 }])).toBeUndefined();
    expect(compareRecords(bytes, lines, [{ rule: 'host-name', count: 3 }])).toMatch(
      /count of rule host-name/,
    );
    const moved = lines.toString().replace('"entries":[4,4]', '"entries":[3,3]');
    expect(compareRecords(bytes, Buffer.from(moved), [])).toMatch(/BINARY of entry 4/);
  });

  it('comes out the same whatever the chunks, as if each field stood alone, with a record for every pseudonym', () => {
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
      fc.string({ maxLength: 12, unit: 'binary' }),
    );
    const value = fc.array(piece, { maxLength: 5 }).map((pieces) => Buffer.from(pieces.join('')));
    const field = fc.tuple(fc.stringMatching(/^[A-Z][A-Z0-9_]{0,12}$/), value);
    const journal = fc.array(fc.array(field, { minLength: 1, maxLength: 5 }), { maxLength: 6 });
    fc.assert(
      fc.property(journal, fc.integer({ min: 1, max: 60 }), (entries, chunk) => {
        const given = exported(entries);
        const whole = redact(given);
        expect(redact(given, chunk)).toEqual(whole);
        expect(fieldsOf(whole.bytes)).toEqual(
          entries.map((fields) => fields.map(([name, bytes]) => [name, alone(name, bytes)])),
        );
        const found = parseExport(whole.bytes)
          .flat()
          .flatMap(({ value }) => pseudonymsInValue(value));
        expect(whole.records.reduce((sum, record) => sum + replacements(record), 0)).toBe(found.length);
        const lines = Buffer.from(whole.records.map((record) => `${JSON.stringify(record)}\n`).join(''));
        if (found.length > 0) expect(compareRecords(whole.bytes, lines, [], chunk)).toBeUndefined();
      }),
      { numRuns: 100 },
    );
  });

  it('comes out the same where most lines are known to be clean as where none is', () => {
    const value = fc.oneof(
      fc.constantFrom(
        '10.0.0.1',
        'fe80::1 is up',
        '16:30:00',
        'alpha.example',
        '‹ip:00000000›',
        '',
        'one\ntwo',
      ),
      fc.constantFrom('s=0123;i=1', 'x; password=one', '-----BEGIN', 'a: "b"', 'a', 'ab', '\n', '\n\n'),
      fc.constantFrom(...rules.map(({ sample }) => drawn(sample))),
      fc.string({ maxLength: 12, unit: 'binary' }),
      fc.string({ minLength: 180, maxLength: 200 }),
    );
    const name = fc.constantFrom('_UID', '_HOSTNAME', '__CURSOR', '__SEQNUM', 'MESSAGE', 'TOKEN', 'A');
    const kept = fc.array(fc.tuple(name, value), { minLength: 1, maxLength: 12 });
    const journal = kept.chain((pool) =>
      fc.array(fc.array(fc.constantFrom(...pool), { minLength: 1, maxLength: 4 }), { maxLength: 60 }),
    );
    const fresh = () => new Redactor({ rules, hosts: ['alpha.example'], key: caseKey });
    fc.assert(
      fc.property(journal, fc.integer({ min: 1, max: 5000 }), (entries, chunk) => {
        const given = exported(entries);
        const by = fresh();
        redact(given, undefined, by);
        redact(given, undefined, by);
        const known = redact(given, chunk, by);
        expect(known).toEqual(redact(given, undefined, fresh()));
        const alones = new Map<string, string>();
        const aloneOnce = (field: string, bytes: string): string => {
          const line = `${field}=${bytes}`;
          const found = alones.get(line) ?? alone(field, Buffer.from(bytes));
          alones.set(line, found);
          return found;
        };
        expect(fieldsOf(known.bytes)).toEqual(
          entries.map((fields) => fields.map(([field, bytes]) => [field, aloneOnce(field, bytes)])),
        );
      }),
      { numRuns: 40 },
    );
  });

  it('finds a secret at the edge of its window, in both forms', () => {
    for (const edge of [1 << 16, 1 << 17]) {
      for (const shift of [-70, -40, -20, -9, -8, -1, 0, 1]) {
        const { bytes, records } = redact(
          exported([
            [['MESSAGE', 'x'.repeat(edge + shift - 20)]],
            [
              ['CONF', `\nPrivateKey = ${key}\n`],
              ['MESSAGE', `PrivateKey = ${key}`],
            ],
            [['MESSAGE', 'y'.repeat(1 << 17)]],
          ]),
          65_536,
        );
        expect(bytes.includes(key)).toBe(false);
        expect(records.map(({ entries, field }) => [entries, field])).toEqual([
          [[2, 2], 'CONF'],
          [[2, 2], 'MESSAGE'],
        ]);
      }
    }
  });

  it('counts an entry that has nothing but a value that is too long', () => {
    const { records } = redact(exported([[['A', 'x'.repeat(longestValue + 1)]], [['B', 'from 10.0.0.1']]]));
    expect(records.map(({ entries, field }) => [entries, field])).toEqual([
      [[1, 1], 'A'],
      [[2, 2], 'B'],
    ]);
  });

  it('replaces a value as a whole that is too long to look at, in both forms and whatever the chunks', () => {
    const text = 'x'.repeat(longestValue + 10);
    const entries = exported([
      [
        ['A', text.slice(0, longestValue - 10)],
        ['B', text],
        ['C', `\n${text}`],
        ['D', 'after'],
      ],
    ]);
    const [[a, b, c, d] = []] = fieldsOf(redact(entries).bytes);
    expect([a?.[1]?.length, d?.[1]]).toEqual([longestValue - 10, 'after']);
    const hmac = createHmac('sha256', caseKey).update(`large\0${text}`).digest('hex');
    expect(b?.[1]).toBe(`\xe2\x80\xb9large:${hmac.slice(0, 8)}\xe2\x80\xba`);
    expect(c?.[1]).toMatch(/^\xe2\x80\xb9large:[0-9a-f]{8}\xe2\x80\xba$/);
    const [pieces, whole] = [redact(entries, 65_536), redact(entries)];
    expect(pieces.records).toEqual(whole.records);
    expect(pieces.bytes.equals(whole.bytes)).toBe(true);
  });

  it('ends with a whole entry where it was cut off', () => {
    const entries = exported([
      [['A', 'one']],
      [
        ['A', 'two'],
        ['B', 'a\nb'],
        ['C', 'three'],
      ],
    ]);
    for (let end = 0; end <= entries.length; end += 1) {
      const { bytes } = redact(entries.subarray(0, end), 7);
      const fields = fieldsOf(bytes);
      expect(
        fieldsOf(entries)
          .map((entry, at) => entry.slice(0, fields[at]?.length ?? 0))
          .filter(({ length }) => length > 0),
      ).toEqual(fields);
      expect(bytes.length === 0 || bytes.toString('latin1').endsWith('\n\n')).toBe(true);
    }
  });

  it('meets what is no export with a failure, and gives what came before', () => {
    const stream = redactor.stream('journal');
    const bytes = Buffer.concat([exported([[['A', 'one']]]), Buffer.from('=x\0\n'.repeat(100_000))]);
    expect(() => stream.write(bytes)).toThrow(expect.objectContaining({ code: 'journal-export-invalid' }));
    expect(stream.end().toString()).toBe('A=one\n\n');
  });
});

const missing = importerMissing();
describe.skipIf(missing !== undefined)(
  `what comes out${missing === undefined ? '' : ` (skipped: ${missing})`}`,
  () => {
    it('is imported by systemd-journal-remote, entry by entry as it went in but for the pseudonyms', async () => {
      const directory = mkdtempSync(join(tmpdir(), 'ea-import-'));
      try {
        const entries = Array.from({ length: 50 }, (_, n) =>
          journalEntry(n, [
            [
              'MESSAGE',
              n % 3 === 0 ? `peer 10.0.0.${n}\nPrivateKey = ${key}\n` : `quiet ${n} on alpha.example`,
            ],
            ['_HOSTNAME', 'alpha.example'],
            ['BLOB', Uint8Array.of(0, 1, n, 0x0a, 255)],
          ]),
        );
        const { bytes } = redact(exported(entries));
        const source = join(directory, 'entries.export');
        writeFileSync(source, bytes);
        const journal = join(directory, 'entries.journal');
        await importJournal(source, journal);
        const { stdout } = await requireChild('journalctl', [
          '--all',
          '--output=export',
          `--file=${journal}`,
        ]);
        const back = parseExport(stdout).map((entry) =>
          Object.fromEntries(entry.map(({ name, value }) => [name, Buffer.from(value).toString('latin1')])),
        );
        const given = parseExport(bytes).map((entry) =>
          Object.fromEntries(entry.map(({ name, value }) => [name, Buffer.from(value).toString('latin1')])),
        );
        expect(back).toHaveLength(50);
        for (const [n, entry] of back.entries()) {
          const { __CURSOR: _there, ...came } = entry;
          const { __CURSOR: _here, ...went } = given[n] ?? {};
          expect(came).toMatchObject(went);
        }
        expect(back[0]?.MESSAGE).toMatch(
          /^peer \xe2\x80\xb9ip:[0-9a-f]{8}\xe2\x80\xba\nPrivateKey = \xe2\x80\xb9key:/,
        );
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    });
  },
);
