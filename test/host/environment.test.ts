import { expect, it } from 'vitest';
import { requireChild } from '../../src/host/child.ts';

const source = JSON.stringify(new URL('../../src/host/environment.ts', import.meta.url).href);
const secret = 'a-secret-that-protects-nothing';

it('variables of deliveries leave the process: secret ones are overwritten where the kernel shows them, others are handed on', async () => {
  const program = `
    import { execFileSync } from 'node:child_process';
    import { readFileSync } from 'node:fs';
    const { dropDeliveryVariables } = await import(${source});
    const before = readFileSync('/proc/self/environ', 'latin1');
    const { handed, wiped } = dropDeliveryVariables();
    const after = readFileSync('/proc/self/environ', 'latin1');
    const own = Object.keys(process.env).filter((name) => name.startsWith('AWS_'));
    const inherited = execFileSync('env', { encoding: 'utf8' });
    console.log(JSON.stringify({ before, handed, wiped: wiped.toSorted(), after, own, inherited }));`;
  const { stdout } = await requireChild(process.execPath, ['--input-type=module', '--eval', program], {
    env: {
      PATH: process.env.PATH,
      AWS_ACCESS_KEY_ID: `${secret}-1`,
      AWS_SECRET_ACCESS_KEY: `${secret}-2`,
      AWS_SESSION_TOKEN: `${secret}-3`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN: `${secret}-4`,
      AWS_BEARER_TOKEN_BEDROCK: `${secret}-5`,
      SIGSTORE_ID_TOKEN: `${secret}-6`,
      ACTIONS_ID_TOKEN_REQUEST_TOKEN: `${secret}-7`,
      ACTIONS_ID_TOKEN_REQUEST_URL: 'https://127.0.0.1/token',
      AWS_PROFILE: 'evidence',
      AWS_WEB_IDENTITY_TOKEN_FILE: '/run/token',
    },
  });
  const told = JSON.parse(stdout.toString());
  expect(told.before.split(secret)).toHaveLength(8);
  expect(told.handed).toEqual({ AWS_PROFILE: 'evidence', AWS_WEB_IDENTITY_TOKEN_FILE: '/run/token' });
  expect(told.wiped).toEqual([
    'ACTIONS_ID_TOKEN_REQUEST_TOKEN',
    'ACTIONS_ID_TOKEN_REQUEST_URL',
    'AWS_ACCESS_KEY_ID',
    'AWS_BEARER_TOKEN_BEDROCK',
    'AWS_CONTAINER_AUTHORIZATION_TOKEN',
    'AWS_SECRET_ACCESS_KEY',
    'AWS_SESSION_TOKEN',
    'SIGSTORE_ID_TOKEN',
  ]);
  expect(told.after).not.toContain(secret);
  expect(told.own).toEqual([]);
  expect(told.inherited).not.toMatch(/AWS_|ID_TOKEN/);
});
