// Journals of another machine, as systemd lays them out, read by the real journalctl.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseExport } from '../../src/journal/export.ts';
import { importerMissing, importJournal } from '../../src/journal/import.ts';
import { offlineJournal } from '../../src/journal/offline.ts';
import { type JournalPlace, journalHosts, readJournal } from '../../src/journal/read.ts';
import { exported, journalEntry } from '../lab/export.ts';

const missing = importerMissing();
describe.skipIf(missing !== undefined)(
  `a journal that was put aside${missing ? ` (skipped: ${missing})` : ''}`,
  () => {
    // What a pattern would take for its own stands in the path.
    const root = join(mkdtempSync(join(tmpdir(), 'ea-offline-')), 'case [7] {a,b} *');
    const [one, two] = ['0123456789abcdef0123456789abcdef', 'fedcba9876543210fedcba9876543210'];
    const at = (...names: string[]) => join(root, ...names);
    const write = async (directory: string, message: string, host: string) => {
      mkdirSync(at(directory), { recursive: true });
      const fields: [string, string][] = [
        ['_HOSTNAME', host],
        ['MESSAGE', message],
      ];
      writeFileSync(at('entries'), exported([journalEntry(1, fields)]));
      await importJournal(at('entries'), at(directory, 'system.journal'));
    };
    beforeAll(async () => {
      await write(one, 'of the machine', 'victim-db7.example.org');
      await write(`${one}.lab`, 'of lab', 'victim-db7');
      await write(`${two}.lab`, 'of lab, before', 'victim-old');
      await write(`${one}.web`, 'of web', 'web1');
      mkdirSync(at('not-a-machine.lab'));
    });
    afterAll(() => rmSync(join(root, '..'), { recursive: true }));

    const messagesOf = async (place: JournalPlace) => {
      const chunks: Buffer[] = [];
      for await (const chunk of readJournal(place)) chunks.push(Buffer.from(chunk));
      return parseExport(Buffer.concat(chunks))
        .flatMap((entry) => entry.filter(({ name }) => name === 'MESSAGE'))
        .map(({ value }) => Buffer.from(value).toString())
        .sort();
    };
    const readAt = async (path: string, namespace: string) =>
      await messagesOf(offlineJournal(path, namespace).place);

    it('gives the default namespace unless another is named, and says which others lie there', async () => {
      expect(await readAt(root, '')).toEqual(['of the machine']);
      expect(offlineJournal(root, '').others).toEqual(['lab', 'web']);
    });

    it('gives just the namespace that is named, of every machine that has one', async () => {
      expect(await readAt(root, 'web')).toEqual(['of web']);
      expect(await readAt(root, 'lab')).toEqual(['of lab', 'of lab, before']);
    });

    it('may be the directory of one namespace, or a file', async () => {
      for (const namespace of ['', 'lab']) {
        expect(await readAt(at(`${one}.lab`), namespace)).toEqual(['of lab']);
        expect(await readAt(at(`${one}.lab`, 'system.journal'), namespace)).toEqual(['of lab']);
      }
      expect(offlineJournal(at(one), '').others).toEqual([]);
    });

    it.each(['nix', '*', '+lab', 'la'])(
      'is refused with the namespace %s, and says which there are',
      (name) => {
        expect(() => offlineJournal(root, name)).toThrow(
          expect.objectContaining({
            code: 'namespace-missing',
            status: 2,
            message: expect.stringContaining('there are: the default one, lab, web.'),
          }),
        );
      },
    );

    it('is refused with a namespace where a file is of none, and where nothing is', () => {
      expect(() => offlineJournal(at(one, 'system.journal'), 'lab')).toThrow(/is one file/);
      expect(() => offlineJournal(at('nowhere'), 'lab')).toThrow(/no directory there is named/);
      expect(() => offlineJournal(at(`${one}.web`), 'lab')).toThrow(/no directory there is named/);
      expect(offlineJournal(at('nowhere'), '')).toEqual({
        place: { directories: [at('nowhere')] },
        others: [],
      });
    });

    it('tells the names of the machines that logged there', async () => {
      const hostsAt = async (path: string, namespace: string) =>
        (await journalHosts(offlineJournal(path, namespace).place)).sort();
      expect(await hostsAt(root, '')).toEqual(['victim-db7.example.org']);
      expect(await hostsAt(root, 'lab')).toEqual(['victim-db7', 'victim-old']);
      await expect(journalHosts({ directories: [at('nowhere')] })).rejects.toMatchObject({
        code: 'program-failed',
      });
    });
  },
);
