import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { redactorFor } from '../../src/appliance/bundle-redactor.ts';
import { CaseKey } from '../../src/appliance/case-key.ts';
import { loadConfig } from '../../src/appliance/config.ts';
import type { BundleRequest } from '../../src/appliance/evidence.ts';
import { requireEvidenceSettings } from '../../src/appliance/evidence.ts';
import { importerMissing, importJournal } from '../../src/journal/import.ts';
import { exported, journalEntry } from '../lab/export.ts';
import { labNode, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const configOf = (rules: string) => {
  writeFileSync(scratch.at('own.toml'), rules);
  writeFileSync(scratch.at('config.toml'), `[forensics]\nredaction_rules = "${scratch.at('own.toml')}"\n`);
  return loadConfig({ path: scratch.at('config.toml') });
};
const sound = `[[rules]]\nname = "staff-number"\nkind = "staff"\npattern = 'EMP-\\d{6}'\nsample = "<<EMP-{digits:6}>>"\n`;
const broken = `${sound}patern = "x"\n`;
const redacted = async (
  config: ReturnType<typeof loadConfig>,
  request: Partial<BundleRequest>,
  text: string,
) => {
  const troubles: string[] = [];
  using caseKey = CaseKey.fresh();
  const redactor = await redactorFor(caseKey, config, { reason: 'test', ...request }, (trouble) =>
    troubles.push(trouble),
  );
  const stream = redactor.stream();
  return { text: Buffer.concat([stream.write(Buffer.from(text)), stream.end()]).toString(), troubles };
};

describe('what redacts a bundle', () => {
  it('has the rules of forensics.redaction_rules behind those of the distribution', async () => {
    const config = configOf(sound);
    await requireEvidenceSettings(config);
    const { text } = await redacted(config, {}, 'EMP-123456 at 10.1.2.3, password=EMP-123456');
    expect(text).toMatch(/^‹staff:\w{8}› at ‹ip:\w{8}›, password=‹credential:\w{8}›$/);
  });

  it('is refused before anything is begun where these are broken, as a start and doctor say', async () => {
    const config = configOf(broken);
    const refusal = {
      code: 'config-invalid',
      message: expect.stringContaining(`${scratch.at('own.toml')}:6: `),
    };
    await expect(requireEvidenceSettings(config)).rejects.toMatchObject(refusal);
    await expect(redacted(config, { trigger: 'timer' }, '')).rejects.toMatchObject(refusal);
  });

  it('does without them for a zeroize, and says so', async () => {
    const { text, troubles } = await redacted(
      configOf(broken),
      { trigger: 'zeroize' },
      'EMP-123456 at 10.1.2.3',
    );
    expect(text).toMatch(/^EMP-123456 at ‹ip:/);
    expect(troubles).toContainEqual(expect.stringMatching(/rules of the distribution alone.*own\.toml:6: /));
  });

  it('is told of in the log of a node that was zeroized with broken ones, whose bundle is made', async () => {
    writeFileSync(scratch.at('broken.toml'), broken);
    await using node = await labNode(scratch, 'misruled', {
      configuration: `[forensics]\nredaction_rules = "${scratch.at('broken.toml')}"\n`,
    });
    await node.ask(['provision']);
    await node.run();
    expect(node.log).toMatch(/cannot make forensic bundles as it is set up/);
    await node.ask(['zeroize', '--reason', 'test']);
    await until('the log tells of it', () => /rules of the distribution alone/.test(node.log) || undefined);
    expect((await node.status()).zeroize).toMatchObject({ bundle: expect.stringMatching(/\.tar\.gz$/) });
  });

  it.skipIf(importerMissing() !== undefined)(
    'replaces the names of the machines that logged into the journal that is read',
    async () => {
      mkdirSync(scratch.at('journal'));
      const fields: [string, string][] = [
        ['_HOSTNAME', 'victim-db7.example.org'],
        ['MESSAGE', 'hello'],
      ];
      writeFileSync(scratch.at('entries'), exported([journalEntry(1, fields)]));
      await importJournal(scratch.at('entries'), scratch.at('journal', 'system.journal'));
      const names = 'victim-db7.example.org victim-db7 victim-db70';
      const journalPath = scratch.at('journal');
      const { text, troubles } = await redacted(loadConfig({}), { journalPath }, names);
      expect(text).toMatch(/^‹host:\w{8}› ‹host:\w{8}› victim-db70$/);
      expect(troubles).toEqual([]);
    },
  );

  it('is made where the journal cannot be asked for names, and says that these stay', async () => {
    const { text, troubles } = await redacted(
      loadConfig({}),
      { journalPath: scratch.at('nowhere') },
      '_HOSTNAME=db7 _HOSTNAME=localhost db7',
    );
    expect(text).toMatch(/^_HOSTNAME=‹host:\w{8}› _HOSTNAME=localhost db7$/);
    expect(troubles).toEqual([expect.stringMatching(/only the journal knows stay in it\. .*No such file/)]);
  });
});
