import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { loadConfig } from '../../src/appliance/config.ts';
import { esoteric } from '../lab/node.ts';

const scratch = mkdtempSync(join(tmpdir(), 'ea-usage-'));
afterAll(() => rmSync(scratch, { recursive: true }));

async function ran(...args: string[]) {
  const { status, stdout, stderr } = await esoteric(args);
  return { status, stdout: stdout.toString(), stderr };
}

/** A stack trace, as Node prints it. */
const trace = /^\s+at .*(:\d+:\d+|<anonymous>)/m;

function configFile(text: string): string {
  const path = join(scratch, `config-${readdirSync(scratch).length}.toml`);
  writeFileSync(path, text);
  return path;
}

describe('what cannot be meant', () => {
  it.each([
    [['provison'], 'provision'],
    [['zeroise', '--reason', 'x'], 'zeroize'],
    [['provision', '--dry-rum'], '--dry-run'],
    [['status', '--jsn'], '--json'],
    [['run', '--no-tmp'], '--no-tpm'],
    [['verify', 'bundle.tar.gz', '--enrollment', 'x'], '--enrolment'],
    [['maintenance', 'beginn', '--reason', 'x'], 'begin'],
    [['alert', 'tets'], 'test'],
    [['custody', 'shwo'], 'show'],
    [['config', 'shov'], 'show'],
  ])('%j ends with 2 and names %s', async (args, nearest) => {
    const { status, stdout, stderr } = await ran(...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(`(Did you mean ${nearest}?)`);
    expect(stderr).not.toMatch(trace);
  });

  it.each([
    [['verify'], /missing required argument 'bundle'/],
    [['zeroize'], /required option '--reason <text>' not specified/],
    [['zeroize', '--level', 'scorch', '--reason', 'x'], /purge, lock, destroy/],
    [['maintenance', 'begin'], /--reason/],
    [['stream', '--bytes', 'many'], /--bytes takes a number/],
    [['status', '--config'], /argument missing/],
    [['status', 'now'], /too many arguments/],
    [['run', '-I', 'eth0/1'], /-I takes any, interface names or CPU\[n\]/],
    [['verify', 'x', '--identity', 'someone'], /belong together/],
    [['provision', '--dry-run', '--rotate', 'wireguard'], /--dry-run changes nothing, so --rotate/],
    [['provision', '--what-if-pcr', '7=00', '--revoke'], /--what-if changes nothing, so --revoke/],
    [['custody'], /Usage: esoteric-appliance custody/],
    [[], /Usage: esoteric-appliance \[options\] \[command\]/],
  ])('%j ends with 2 and says %s', async (args, says) => {
    const { status, stdout, stderr } = await ran(...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(says);
    expect(stderr).not.toMatch(trace);
  });

  it.each([[['--tpm', 'swtpm:path=/nobody', '--no-tpm']], [['--no-tpm', '--tpm=swtpm:path=/nobody']]])(
    'provision %j: a TPM and none exclude each other in either order, and nothing is made',
    async (flags) => {
      const state = join(scratch, 'both');
      const { status, stderr } = await ran('provision', ...flags, '--state-dir', state);
      expect(status).toBe(2);
      expect(stderr).toMatch(/exclude each other/);
      expect(existsSync(state)).toBe(false);
    },
  );
});

describe('a configuration that is wrong', () => {
  it.each([
    ['a key', '[node]\nname = "alpha"\ninterfases = []\n', 3, /interfaces/],
    ['a table', '[forensic]\nupload = ""\n', 1, /forensics/],
    ['a type', '[node]\nname = "alpha"\n\n[tpm]\ncap_pcr = "14"\n', 5, /number/],
    ['a value', '[interlock]\nlevel = "scorch"\n', 2, /purge/],
    ['the syntax', '[node]\nname = \n', 2, /./],
  ])(
    'in %s ends with 2, names file and line and what was expected, and touches nothing',
    async (_, text, line, expected) => {
      const path = configFile(text);
      const state = join(scratch, 'untouched');
      const { status, stdout, stderr } = await ran(
        ...['provision', '--no-tpm', '--config', path, '--state-dir', state],
      );
      expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
      expect(stderr).toContain(`${path}:${line}`);
      expect(stderr).toMatch(expected);
      expect(stderr).not.toMatch(trace);
      expect(existsSync(state)).toBe(false);
    },
  );

  it('is refused by every command that reads it', async () => {
    const path = configFile('[node]\nname = 7\n');
    const commands = ['run', 'courier', 'status', 'doctor', 'collect-forensics', 'stream'];
    for (const words of [...commands.map((name) => [name]), ['custody', 'check'], ['alert', 'status']]) {
      expect([words, (await ran(...words, '--config', path)).status]).toEqual([words, 2]);
    }
  });

  it('that does not exist is told, not replaced by defaults', async () => {
    const { status, stderr } = await ran('status', '--config', join(scratch, 'missing.toml'));
    expect(status).toBe(2);
    expect(stderr).toContain('missing.toml');
  });

  it('is told as one JSON document with --json', async () => {
    const { status, stdout, stderr } = await ran('status', '--json', '--config', configFile('[nod]\n'));
    expect(status).toBe(2);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'config-invalid' } });
  });
});

describe('what needs no node', () => {
  it('prints its version and its help', async () => {
    for (const words of [['--version'], ['-V'], ['stream', '-V']]) {
      expect(await ran(...words)).toMatchObject({ status: 0, stdout: `${packageJson.version}\n` });
    }
    const help = await ran('provision', '--help');
    expect(help.status).toBe(0);
    expect(help.stdout).toMatch(/--dry-run[\s\S]*Examples:/);
  });

  it('prints the configuration with its documentation, in a form that it reads back to the same', async () => {
    const given = configFile('[node]\nname = "alpha"\ninterfaces = ["eth0"]\n[tpm]\ncap_pcr = 12\n');
    const shown = await ran('config', 'show', '--config', given);
    expect(shown.status).toBe(0);
    const again = configFile(shown.stdout);
    expect(loadConfig({ path: again })).toEqual(loadConfig({ path: given }));
    const json = await ran('config', 'show', '--json', '--config', given);
    expect(JSON.parse(json.stdout)).toEqual(loadConfig({ path: given }));
  });

  it('says of a state without a node that it is unprovisioned, with status 0, and makes none', async () => {
    const state = join(scratch, 'none');
    const { status, stdout } = await ran('status', '--json', '--state-dir', state);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ state: 'unprovisioned', assurance: null, custody: null });
    for (const words of [['custody', 'check'], ['collect-forensics']]) {
      const refused = await ran(...words, '--json', '--state-dir', state);
      expect(refused.status).toBe(1);
      expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'unprovisioned' } });
    }
    for (const words of [
      ['zeroize', '--reason', 'x'],
      ['maintenance', 'end'],
      ['alert', 'test'],
    ]) {
      const refused = await ran(...words, '--json', '--state-dir', state);
      expect(refused.status).toBe(1);
      expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'node-not-running' } });
    }
    expect(existsSync(state)).toBe(false);
  });
});
