import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readAddedRules } from '../../src/forensics/added-rules.ts';
import { rules as shipped } from './sample.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-rules-'));
afterAll(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'own.toml');
const rule = (name: string, pattern: string, sample: string): string =>
  `[[rules]]\nname = "${name}"\nkind = "own"\npattern = '${pattern}'\nsample = "${sample}"\n`;
const read = (...texts: string[]) => {
  writeFileSync(path, texts.join('\n'));
  return readAddedRules(path, shipped);
};

describe('rules that an operator adds', () => {
  const staff = rule('staff-number', '\\bEMP-\\d{6}\\b', 'by <<EMP-{digits:6}>>, on duty');

  it('are taken where each finds its sample', () => {
    const patient = rule('patient', 'patient=(?<secret>\\w{8})', 'patient=<<{upper:8}>>;');
    expect(read(staff, patient).map(({ name }) => name)).toEqual(['staff-number', 'patient']);
    expect(read('rules = []\n')).toEqual([]);
  });

  it.each([
    ['whose name is taken', [rule('password', 'abc\\d', '<<abcdefgh>>')], /own\.toml:2: .*no other rule/],
    ['whose name is given twice', [staff, staff], /own\.toml:8: .*no other rule/],
    [
      'that do not find their sample',
      [staff, rule('x', 'X\\d{6}', '<<Y{digits:6}>>')],
      /own\.toml:11: .*just/,
    ],
    ['that find half of it', [rule('x', 'X\\d{5}', '<<X{digits:6}>>')], /own\.toml:5: .*just/],
    [
      'that find some of what it stands for',
      [rule('x', '[0-4]{8}', '<<{digits:8}>>')],
      /own\.toml:5: .*just/,
    ],
    ['that take from one before', [staff, rule('x', 'by EMP', '<<by EMP>>')], /own\.toml:10: .*staff-number/],
    ['that take from the distribution', [rule('x', 'id AKIA', '<<id AKIA>>')], /own\.toml:4: .*aws-access/],
    ['that are no rules', [rule('x', '(', '<<abcdef>>')], /own\.toml:4: .*regular expression/],
  ])('are refused with file and line: those %s', (_which, texts, message) => {
    expect(() => read(...texts)).toThrow(message);
  });

  it('are refused where there is no file', () => {
    expect(() => readAddedRules(join(directory, 'none.toml'), shipped)).toThrow(
      expect.objectContaining({ code: 'config-missing' }),
    );
  });
});
