// Entries in from a real journald through journalctl, and the export format by itself.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { exportEntries, type JournalField, parseExport } from '../../src/journal/export.ts';
import { type JournalQuery, readJournal } from '../../src/journal/read.ts';
import { encodeEntry, JournalWriter } from '../../src/journal/write.ts';
import { type Journald, journaldMissing, startJournald } from '../lab/journald.ts';

async function collect(query: JournalQuery): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of readJournal(query)) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}
/** In pieces that are each written over the one before. */
function* throughOneBuffer(bytes: Buffer, size: number): Generator<Buffer> {
  const buffer = Buffer.alloc(size);
  for (let at = 0; at < bytes.length; at += size) yield buffer.subarray(0, bytes.copy(buffer, 0, at));
}

const text = (entry: JournalField[] | undefined, name: string) =>
  entry
    ?.filter((field) => field.name === name)
    .map((field) => Buffer.from(field.value).toString())
    .join();

describe('the export format', () => {
  it('reads back whatever the native form wrote', () => {
    const name = fc.stringMatching(/^[A-Z][A-Z0-9_]{0,20}$/);
    const entry = fc.dictionary(name, fc.string({ unit: 'binary' }), { minKeys: 1, maxKeys: 8 });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 5 }), (entries) => {
        const bytes = Buffer.concat(entries.flatMap((fields) => [encodeEntry(fields), Buffer.from('\n')]));
        const parsed = parseExport(bytes).map((fields) =>
          Object.fromEntries(fields.map(({ name, value }) => [name, Buffer.from(value).toString()])),
        );
        expect(parsed).toEqual(entries.map((fields) => ({ ...fields })));
      }),
    );
  });
  it('gives the same entries, whatever the pieces it comes in', async () => {
    const name = fc.stringMatching(/^[A-Z][A-Z0-9_]{0,20}$/);
    const entry = fc.dictionary(name, fc.string({ unit: 'binary' }), { minKeys: 1, maxKeys: 8 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(entry, { maxLength: 5 }),
        fc.integer({ min: 1, max: 40 }),
        async (all, size) => {
          const bytes = Buffer.concat(all.flatMap((fields) => [encodeEntry(fields), Buffer.from('\n')]));
          const came: JournalField[][] = [];
          for await (const fields of exportEntries(throughOneBuffer(bytes, size)))
            came.push(fields.map((field) => ({ ...field, value: Buffer.from(field.value) })));
          expect(came).toEqual(parseExport(bytes));
        },
      ),
    );
  });
  it('answers any bytes with entries or a Failure, never with another error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          parseExport(bytes);
        } catch (error) {
          expect(error).toMatchObject({ code: 'journal-export-invalid' });
        }
      }),
    );
  });
  it.each([
    ['a line without an end', 'MESSAGE=x'],
    ['a length cut short', 'MESSAGE\n\u0001\0\0'],
    ['a value cut short', 'MESSAGE\n\u0009\0\0\0\0\0\0\0abc\n'],
    ['a value without its line break', 'MESSAGE\n\u0001\0\0\0\0\0\0\0abc\n'],
    ['a field without a name', '=x\n'],
  ])('refuses %s', (_what, input) => {
    expect(() => parseExport(Buffer.from(input))).toThrow(
      expect.objectContaining({ code: 'journal-export-invalid' }),
    );
  });
});

const missing = journaldMissing();
describe.skipIf(missing !== undefined)(`a real journal${missing ? ` (skipped: ${missing})` : ''}`, () => {
  const namespace = `ea-read-${randomBytes(4).toString('hex')}`;
  const between = { instant: new Date(0) };
  let journald: Journald;
  beforeAll(async () => {
    journald = await startJournald(namespace);
    using writer = new JournalWriter({ namespace });
    writer.send({ MESSAGE: 'first', SYSLOG_IDENTIFIER: 'ea-test' });
    await journald.flush();
    await new Promise((resolve) => setTimeout(resolve, 5));
    between.instant = new Date();
    await new Promise((resolve) => setTimeout(resolve, 5));
    writer.send({ MESSAGE: 'second\nline', SYSLOG_IDENTIFIER: 'ea-test', PRIORITY: '3' });
    writer.send({ MESSAGE: 'x'.repeat(100_000), SYSLOG_IDENTIFIER: 'ea-long' });
    await journald.flush();
  });
  afterAll(() => journald.stop());

  it('comes complete in export format, oldest first', async () => {
    const entries = parseExport(await collect({ namespace }));
    const messages = entries.map((entry) => text(entry, 'MESSAGE'));
    expect(messages).toContain('first');
    expect(messages.indexOf('second\nline')).toBeGreaterThan(messages.indexOf('first'));
    const second = entries.find((entry) => text(entry, 'MESSAGE') === 'second\nline');
    expect(text(second, '_NAMESPACE')).toBe(namespace);
    expect(text(second, '_PID')).toBe(String(process.pid));
  });
  it('has long messages whole', async () => {
    const entries = parseExport(await collect({ namespace }));
    const long = entries.find((entry) => text(entry, 'SYSLOG_IDENTIFIER') === 'ea-long');
    expect(text(long, 'MESSAGE')).toHaveLength(100_000);
  });
  it.each([
    ['a Date', () => between.instant],
    ['RFC 3339', () => between.instant.toISOString()],
  ])('is limited by times given as %s', async (_form, instant) => {
    const later = (await collect({ namespace, since: instant() })).toString();
    const earlier = (await collect({ namespace, until: instant() })).toString();
    expect([later.includes('second'), /^MESSAGE=first$/m.test(later)]).toEqual([true, false]);
    expect([earlier.includes('second'), /^MESSAGE=first$/m.test(earlier)]).toEqual([false, true]);
  });
  it('is limited by number, unit and boot', async () => {
    const count = async (query: Partial<JournalQuery>) =>
      parseExport(await collect({ namespace, ...query })).length;
    expect(await count({ lines: 2 })).toBe(2);
    expect(await count({ units: ['nothing.service'] })).toBe(0);
    expect(await count({ boot: '0', lines: 1 })).toBe(1);
  });
  it('stops journalctl when the reader has seen enough', async () => {
    for await (const chunk of readJournal({ namespace })) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
  });
  it('ends with the reason of an abort', async () => {
    const abort = new AbortController();
    const reading = (async () => {
      for await (const _chunk of readJournal({ namespace, signal: abort.signal })) {
        abort.abort(new Error('no longer needed'));
      }
    })();
    await expect(reading).rejects.toThrow('no longer needed');
  });
  it('kills a journalctl that takes too long', async () => {
    await expect(collect({ namespace, timeoutMilliseconds: 0 })).rejects.toMatchObject({
      code: 'journal-timeout',
    });
  });
  it('repeats what journalctl found wrong with the selection', async () => {
    await expect(collect({ namespace, since: 'nonsense' })).rejects.toMatchObject({
      code: 'journal-failed',
      message: expect.stringContaining('Failed to parse timestamp: nonsense'),
    });
  });
});

describe('where there is no journal', () => {
  it('says that it is unavailable, and what to do', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'ea-no-journal-'));
    try {
      await expect(collect({ directories: [directory] })).rejects.toMatchObject({
        code: 'journal-unavailable',
        remedy: expect.stringContaining('--journal-path'),
      });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
  it('says the same where journalctl is not installed', async () => {
    vi.stubEnv('PATH', '/nonexistent');
    try {
      await expect(collect({})).rejects.toMatchObject({ code: 'journal-unavailable' });
    } finally {
      vi.unstubAllEnvs();
    }
  });
});
