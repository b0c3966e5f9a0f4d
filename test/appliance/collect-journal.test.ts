import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import { parseExport } from '../../src/journal/export.ts';
import { JournalWriter } from '../../src/journal/write.ts';
import { type Journald, journaldMissing, startJournald } from '../lab/journald.ts';
import { esoteric, type LabNode } from '../lab/node.ts';
import { labNode, Scratch } from './scene.ts';

const missing = journaldMissing();
describe.skipIf(missing !== undefined)(
  `the journal of a bundle${missing ? ` (skipped: ${missing})` : ''}`,
  () => {
    const namespace = `ea-collect-${randomBytes(4).toString('hex')}`;
    const scratch = new Scratch();
    const messages = ['one', 'two', 'three', 'four'];
    let journald: Journald;
    let node: LabNode;
    beforeAll(async () => {
      journald = await startJournald(namespace);
      using writer = new JournalWriter({ namespace });
      for (const message of messages) writer.send({ MESSAGE: message, SYSLOG_IDENTIFIER: 'ea-collect' });
      await journald.flush();
      node = await labNode(scratch, 'collecting');
      await node.ask(['provision']);
    });
    afterAll(async () => {
      await node?.[Symbol.asyncDispose]();
      await journald?.stop();
      scratch[Symbol.dispose]();
    });

    const collect = async (...options: string[]) => {
      const made = await node.ask<BundleMade>(['collect-forensics', ...options]);
      const member = (path: string) => execFileSync('tar', ['-xzOf', made.archive, path], { stdio: 'pipe' });
      const manifest = JSON.parse(member('manifest.json').toString()) as {
        files: { path: string; source: string }[];
        collectors: { name: string; status: string }[];
      };
      const file = manifest.files.find(({ path }) => path === 'journal/entries.export');
      const entries = file === undefined ? [] : parseExport(member(file.path));
      const valuesOf = (field: string) =>
        entries.map((entry) => {
          const found = entry.find(({ name }) => name === field);
          return Buffer.from(found?.value ?? '').toString();
        });
      return {
        source: file?.source,
        status: manifest.collectors.find(({ name }) => name === 'journal')?.status,
        hosts: valuesOf('_HOSTNAME'),
        messages: valuesOf('MESSAGE'),
      };
    };

    it('is of the namespace that is named, and the manifest says how it was chosen', async () => {
      const all = await collect('--namespace', namespace);
      expect(all.messages.filter((message) => messages.includes(message))).toEqual(messages);
      const last = await collect('--namespace', namespace, '--lines', '1');
      expect(last.messages).toEqual(all.messages.slice(-1));
      expect(last.source).toContain(`--namespace=${namespace} --lines=1:`);
    });

    it.skipIf(hostname() === 'localhost')(
      'names this machine by a pseudonym, the same in every entry',
      async () => {
        const { hosts } = await collect('--namespace', namespace);
        expect(new Set(hosts).size).toBe(1);
        expect(hosts[0]).toMatch(/^‹host:[0-9a-f]{8}›/);
      },
    );

    it('ends at --until, is of the boot and the units that are named, and says so where that leaves nothing', async () => {
      const early = await collect('--namespace', namespace, '--until', '2001-01-01');
      expect(early).toMatchObject({ status: 'empty', messages: [] });
      const boot = await collect('--namespace', namespace, '--boot', '0');
      expect(boot.messages).toEqual(expect.arrayContaining(messages));
      const units = await collect('--namespace', namespace, '--unit', 'a.service', 'b.service');
      expect(units).toMatchObject({ status: 'empty', messages: [] });
      expect(units.source).toContain('--unit=a.service --unit=b.service');
    });

    it('is read from a file as from the directory that holds it', async () => {
      const root = '/run/log/journal';
      const directory = join(root, readdirSync(root).find((name) => name.endsWith(namespace)) ?? 'none');
      const file = join(directory, 'system.journal');
      expect((await collect('--journal-path', file)).messages).toEqual(expect.arrayContaining(messages));
      const all = await collect('--journal-path', directory);
      expect(all.messages).toEqual(expect.arrayContaining(messages));
    });

    it('is recorded as failed where journalctl does not understand the choice, and stops no bundle', async () => {
      expect(await collect('--namespace', namespace, '--since', 'soonish')).toMatchObject({
        status: 'failed',
        messages: [],
      });
    });

    it.each(['0', '-1', 'many', '1.5'])(
      'is refused with --lines %s, before anything is made',
      async (lines) => {
        const { status, stderr } = await esoteric([
          'collect-forensics',
          ...node.arguments,
          `--lines=${lines}`,
        ]);
        expect(status).toBe(2);
        expect(stderr).toContain('--lines');
      },
    );
  },
);
