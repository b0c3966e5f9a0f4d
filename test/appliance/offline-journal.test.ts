// A bundle of a journal of another machine, which has several namespaces.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import type { Preview } from '../../src/appliance/preview.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import { importerMissing, importJournal } from '../../src/journal/import.ts';
import { exported, journalEntry } from '../lab/export.ts';
import { esotericJson, type LabNode } from '../lab/node.ts';
import { labNode, refusalOf, Scratch } from './scene.ts';

const missing = importerMissing();
describe.skipIf(missing !== undefined)(
  `a bundle of an offline journal${missing ? ` (skipped: ${missing})` : ''}`,
  () => {
    const scratch = new Scratch();
    const journals = scratch.at('journal');
    const machine = '0123456789abcdef0123456789abcdef';
    const caseKey = scratch.at('case.key');
    const addedRules = scratch.at('own.toml');
    let node: LabNode;
    const write = async (name: string, message: string) => {
      mkdirSync(scratch.at('journal', name), { recursive: true });
      const fields: [string, string][] = [
        ['_HOSTNAME', 'victim-db7'],
        ['MESSAGE', message],
      ];
      writeFileSync(scratch.at('entries'), exported([journalEntry(1, fields)]));
      await importJournal(scratch.at('entries'), scratch.at('journal', name, 'system.journal'));
    };
    beforeAll(async () => {
      await write(machine, 'default: victim-db7 is up, by EMP-123456');
      await write(`${machine}.lab`, 'lab: victim-db7 is up');
      writeFileSync(caseKey, randomBytes(32));
      writeFileSync(
        addedRules,
        `[[rules]]\nname = "staff-number"\nkind = "staff"\npattern = 'EMP-\\d{6}'\nsample = "<<EMP-{digits:6}>>"\n`,
      );
      node = await labNode(scratch, 'offline', {
        configuration: `[forensics]\ncase_key = "${caseKey}"\nredaction_rules = "${addedRules}"\n`,
      });
      await node.ask(['provision']);
    });
    afterAll(async () => {
      await node?.[Symbol.asyncDispose]();
      scratch[Symbol.dispose]();
    });

    const collect = async (...options: string[]) => {
      const made = await node.ask<BundleMade>(['collect-forensics', '--journal-path', journals, ...options]);
      const member = (path: string) => execFileSync('tar', ['-xzOf', made.archive, path]).toString();
      const { files } = JSON.parse(member('manifest.json')) as { files: { path: string; source: string }[] };
      return {
        made,
        entries: member('journal/entries.export'),
        policies: JSON.parse(member('evidence/policies.json')) as Record<string, string>,
        source: files.find(({ path }) => path === 'journal/entries.export')?.source,
      };
    };

    it('has the entries of the namespace that is named, and its source says where these lie', async () => {
      const { entries, source } = await collect('--namespace', 'lab');
      expect(entries).toContain('MESSAGE=lab: ');
      expect(entries).not.toContain('MESSAGE=default: ');
      expect(source).toContain(`--directory=${journals}/${machine}.lab: what was logged`);
      expect(source).not.toContain('--namespace');
    });

    it('has those of the default namespace where none is named, and its source says what lies beside it', async () => {
      const { entries, source } = await collect();
      expect(entries).toContain('MESSAGE=default: ');
      expect(entries).not.toContain('MESSAGE=lab: ');
      expect(source).toContain('not of the namespaces that lie there too: lab');
    });

    it('names the machine that logged there by one pseudonym, in every field', async () => {
      const { entries } = await collect('--namespace', 'lab');
      const [, pseudonym] = /^_HOSTNAME=(‹host:[0-9a-f]{8}›)$/m.exec(entries) ?? [];
      expect(entries).toContain(`MESSAGE=lab: ${pseudonym} is up\n`);
      expect(entries).not.toContain('victim');
    });

    it('is redacted by the operator’s own rules as well, and audited with them', async () => {
      const { made, entries, policies } = await collect();
      expect(policies[addedRules]).toMatch(/^[0-9a-f]{64}$/);
      expect(entries).toMatch(/is up, by ‹staff:[0-9a-f]{8}›\n/);
      const audit = async (...rules: string[]) =>
        await esotericJson<{ ok: boolean; members: { problems: string[] }[] }>(
          ['forensics', 'audit', made.archive, '--case-key', caseKey, '--original', journals, ...rules],
          { accept: [0, 3] },
        );
      expect(await audit('--added-rules', addedRules)).toMatchObject({ ok: true });
      const { members } = await audit();
      expect(members.flatMap(({ problems }) => problems).join()).toContain(
        'staff-number is not in the policy',
      );
    });

    it('is refused for a namespace that is not there, before anything is begun', async () => {
      const layout = stateLayout(node.stateDirectory);
      const state = () => [readdirSync(layout.bundles), readFileSync(`${layout.directory}/sequence`, 'utf8')];
      const before = state();
      const wanted = [
        'collect-forensics',
        ...node.arguments,
        '--journal-path',
        journals,
        '--namespace',
        'nix',
      ];
      const refusal = {
        status: 2,
        code: 'namespace-missing',
        message: expect.stringContaining('there are: the default one, lab'),
      };
      expect(await refusalOf(wanted)).toMatchObject(refusal);
      expect(await refusalOf([...wanted, '--dry-run'])).toMatchObject(refusal);
      expect(state()).toEqual(before);
    });

    it('is rehearsed by --dry-run as it would be read', async () => {
      const { members } = await node.ask<Preview>([
        ...['collect-forensics', '--journal-path', journals, '--namespace', 'lab', '--dry-run'],
      ]);
      expect(members.find(({ name }) => name === 'journal')).toMatchObject({
        status: 'ok',
        source: expect.stringContaining(`${machine}.lab: `),
      });
    });
  },
);
