// The package as npm makes it: built and packed from the sources, unpacked elsewhere, and run there.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Status } from '../src/appliance/status.ts';
import { exitStatus } from '../src/host/failure.ts';

const repository = resolve(import.meta.dirname, '..');
const npm = spawnSync('npm', ['--version'], { encoding: 'utf8' }).status === 0;
const version = (JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as { version: string })
  .version;

let scratch = '';
let home = '';

/** Builds in a copy, so that a checkout that someone works in stays as it is. */
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'ea-package-'));
  if (!npm) return;
  const copy = join(scratch, 'checkout');
  mkdirSync(copy);
  const copied = ['package.json', 'tsconfig.json', 'tsconfig.build.json', 'src'];
  for (const name of [...copied, 'policies', 'provisioning', 'appliance'])
    cpSync(join(repository, name), join(copy, name), { recursive: true });
  symlinkSync(join(repository, 'node_modules'), join(copy, 'node_modules'));
  const packed = spawnSync('npm', ['pack', '--silent', '--pack-destination', scratch], {
    cwd: copy,
    encoding: 'utf8',
    env: { ...process.env, PATH: [dirname(process.execPath), process.env.PATH].join(delimiter) },
  });
  if (packed.status !== 0) throw new Error(`npm pack failed: ${packed.stdout}${packed.stderr}`);
  spawnSync('tar', ['-xzf', join(scratch, `esoteric-appliance-${version}.tgz`), '-C', scratch]);
  home = join(scratch, 'package');
  symlinkSync(join(repository, 'node_modules'), join(home, 'node_modules'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const words = (args: readonly string[]): string[] => [
  '--disable-warning=ExperimentalWarning',
  join(home, 'dist/cli/main.js'),
  ...args,
];
const esoteric = (...args: string[]) => spawnSync(process.execPath, words(args), { encoding: 'utf8' });

describe.skipIf(!npm)(`the package${npm ? '' : ' (skipped: npm is not installed)'}`, () => {
  it('holds what was built, the data that it decides by, and no sources or tests', () => {
    expect(readdirSync(home).filter((name) => name !== 'docs')).toEqual([
      'appliance',
      'dist',
      'node_modules',
      'package.json',
      'policies',
      'provisioning',
    ]);
    const built = readdirSync(join(home, 'dist'), { recursive: true, encoding: 'utf8' });
    expect(built.filter((name) => /(?<!\.d)\.ts$/.test(name))).toEqual([]);
    for (const worker of ['interlock/watcher.js', 'entropy/collector.js']) expect(built).toContain(worker);
  });

  it('imports nothing that npm would not install with it', () => {
    const dist = join(home, 'dist');
    const imported = readdirSync(dist, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.js'))
      .flatMap((name) => [
        ...readFileSync(join(dist, name), 'utf8').matchAll(
          /(?:^(?:import|export) [^;]*?from |\bimport\(|^import )['"]([^'"./][^'"]*)['"]/gm,
        ),
      ])
      .map(([, specifier = '']) => specifier)
      .filter((specifier) => !specifier.startsWith('node:'))
      .map((specifier) => /^(@[^/]+\/)?[^/]+/.exec(specifier)?.[0]);
    expect(imported).toContain('@aws-sdk/client-s3');
    const { dependencies } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    expect(imported.filter((name) => name === undefined || !(name in dependencies))).toEqual([]);
  });

  it('answers --version and --help, also by its launcher', () => {
    expect(esoteric('--version').stdout).toBe(`${version}\n`);
    const help = esoteric('--help');
    expect(help.status).toBe(exitStatus.done);
    expect(help.stdout).toContain('collect-forensics');
    const launcher = join(home, 'appliance/bin/esoteric-appliance');
    expect(spawnSync(launcher, ['--version'], { encoding: 'utf8' }).stdout).toBe(`${version}\n`);
  });

  it('says where the demo is, which it does not hold', () => {
    const { status, stderr } = esoteric('demo');
    expect(status).toBe(exitStatus.failed);
    expect(stderr).toContain('./scripts/demo');
  });

  it('provisions, runs with its threads and its courier, makes a bundle, and verifies it', async () => {
    const state = join(scratch, 'state');
    const flags = ['--no-tpm', '--no-sigstore', '--state-dir', state];
    const provisioned = esoteric('provision', ...flags);
    expect(provisioned.stderr + provisioned.stdout).toContain('is provisioned');
    const node = spawn(process.execPath, words(['run', ...flags]), { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    node.stderr.on('data', (chunk: Buffer) => {
      log += chunk.toString('utf8');
    });
    try {
      for (let waited = 0; waited < 15_000 && !log.includes(' is running.'); waited += 50) {
        if (node.exitCode !== null) break;
        await sleep(50);
      }
      expect(log).toContain(' is running.');
      const status = JSON.parse(esoteric('status', '--json', ...flags).stdout) as Status;
      expect(status).toMatchObject({ state: 'running', interlock: { phase: 'armed' }, pid: node.pid });
      expect(spawnSync(process.execPath, words(['stream', '--bytes', '4096', ...flags])).stdout).toHaveLength(
        4096,
      );
      expect(esoteric('collect-forensics', ...flags).status).toBe(exitStatus.done);
    } finally {
      expect(await stop(node)).toBe(exitStatus.done);
    }
    expect(log).not.toContain('courier ended');
    const archive = readdirSync(join(state, 'bundles')).find((name) => name.endsWith('.tar.gz')) ?? '';
    const appraise = (...more: string[]) =>
      esoteric(
        'verify',
        join(state, 'bundles', archive),
        '--enrolment',
        join(state, 'enrolment.json'),
        ...more,
      );
    expect(appraise().status).toBe(exitStatus.rejected);
    const allowed = appraise('--allow-bypassed');
    expect(allowed.stderr + allowed.status).toBe(`${exitStatus.done}`);
  });
});

async function stop(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await ended;
  clearTimeout(timer);
  return child.exitCode;
}
