// The profile that the courier takes from a file of AWS credentials.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { credentialsFrom } from '../../src/appliance/s3-credentials.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-credentials-'));
afterAll(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'credentials');
const read = (text: string) => {
  writeFileSync(path, text);
  return credentialsFrom(path);
};
const profile = (word: string): string =>
  `aws_access_key_id = ${word}\naws_secret_access_key = ${word}/secret+=\n`;
const own = { accessKeyId: 'OWN', secretAccessKey: 'OWN/secret+=' };

it.each([
  ['alone', `[default]\n${profile('OWN')}`],
  ['after another', `[other]\n${profile('OTHER')}\n[default]\n${profile('OWN')}`],
  ['before another', `[default]\n${profile('OWN')}\n[other]\n${profile('OTHER')}`],
  ['without a section', profile('OWN')],
  [
    'among comments and what it does not need',
    `# a\n; b\n[ default ] # c\nregion=x\n${profile('OWN')}#aws_access_key_id = OLD\n`,
  ],
  [
    'with the line ends of Windows',
    `[other]\n${profile('OTHER')}[default]\n${profile('OWN')}`.replaceAll('\n', '\r\n'),
  ],
])('is [default], %s', (_, text) => {
  expect(read(text)).toEqual(own);
});

it('has a session token where the profile has one, and not that of another', () => {
  const token = 'aws_session_token = TOKEN==\n';
  expect(read(`[default]\n${profile('OWN')}${token}`)).toEqual({ ...own, sessionToken: 'TOKEN==' });
  expect(read(`[other]\n${token}[default]\n${profile('OWN')}`)).toEqual(own);
});

it.each([
  ['only another profile', `[other]\n${profile('OTHER')}`],
  ['half of one', `[other]\n${profile('OTHER')}[default]\naws_access_key_id = OWN\n`],
  ['nothing', ''],
])('is missed where a file holds %s', (_, text) => {
  expect(() => read(text)).toThrow(/holds none of the profile \[default\]/);
});

it('is left to the SDK where no file is named, and missed where the file is', () => {
  expect(credentialsFrom('')).toBeUndefined();
  expect(() => credentialsFrom(join(directory, 'absent'))).toThrow(/is missing/);
});
