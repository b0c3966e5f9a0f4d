// What a courier that has been taken over can do to the node: nothing beyond its own directories.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeDurably } from '../../src/host/durable.ts';
import { esoteric } from '../lab/node.ts';

const isRoot = process.geteuid?.() === 0;

describe.skipIf(!isRoot)(`a courier of another user${isRoot ? '' : ' (skipped: needs root)'}`, () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-privilege-'));
  const state = join(directory, 'state');
  const config = join(directory, 'config.toml');
  const flags = ['--config', config, '--no-tpm', '--no-sigstore'];
  const asNobody = (...words: string[]) =>
    spawnSync('setpriv', ['--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--', ...words]);

  beforeAll(async () => {
    chmodSync(directory, 0o711);
    writeFileSync(config, `[node]\nname = "kept"\nstate_dir = "${state}"\n[courier]\nuser = "nobody"\n`);
    expect((await esoteric(['provision', ...flags])).status).toBe(0);
    expect((await esoteric(['collect-forensics', ...flags])).status).toBe(0);
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  it('reads the bundles, and can neither add, replace nor remove one', () => {
    const [archive = ''] = readdirSync(join(state, 'bundles')).filter((name) => name.endsWith('.tar.gz'));
    const path = join(state, 'bundles', archive);
    expect(asNobody('cat', path).status).toBe(0);
    for (const words of [
      ['touch', join(state, 'bundles', 'planted')],
      ['ln', '-s', join(state, 'custody.jsonl'), `${path}.1.new`],
      ['rm', '-f', path],
      ['sh', '-c', `echo x >> ${path}`],
    ]) {
      expect(asNobody(...words).status, words.join(' ')).not.toBe(0);
    }
  });

  it('cannot have root follow a link that it has put in place of its lock', async () => {
    const custody = readFileSync(join(state, 'custody.jsonl'));
    const lock = join(state, 'courier', 'lock');
    rmSync(lock, { force: true });
    expect(asNobody('ln', '-s', join(state, 'custody.jsonl'), lock).status).toBe(0);
    const { status, stderr } = await esoteric(['courier', '--once', ...flags]);
    expect(status).toBe(1);
    expect(stderr).toContain('cannot be opened');
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(readFileSync(join(state, 'custody.jsonl'))).toEqual(custody);
    rmSync(lock);
  });
});

describe('a file that is replaced', () => {
  it('is written through no link that somebody has planted under its working name', () => {
    const directory = mkdtempSync(join(tmpdir(), 'ea-planted-'));
    const victim = join(directory, 'victim');
    const path = join(directory, 'target');
    writeFileSync(victim, 'untouched', { mode: 0o600 });
    symlinkSync(victim, `${path}.${process.pid}.new`);
    writeDurably(path, 'content', 0o644);
    expect(readFileSync(victim, 'utf8')).toBe('untouched');
    expect(statSync(victim).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, 'utf8')).toBe('content');
    rmSync(directory, { recursive: true });
  });
});
