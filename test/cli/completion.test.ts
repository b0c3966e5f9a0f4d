import { beforeAll, describe, expect, it } from 'vitest';
import { requireChild } from '../../src/host/child.ts';
import { esoteric } from '../lab/node.ts';

let script = '';
beforeAll(async () => {
  const { status, stdout } = await esoteric(['completion', 'bash']);
  expect(status).toBe(0);
  script = stdout.toString();
});

/** What bash offers for the last of the words. */
async function offered(...words: string[]): Promise<string[]> {
  const asked = ['esoteric-appliance', ...words].map((word) => `'${word}'`).join(' ');
  const { stdout } = await requireChild('bash', [
    '-c',
    `${script}\nCOMP_WORDS=(${asked}) COMP_CWORD=${words.length}\n_esoteric_appliance\nprintf '%s\\n' "\${COMPREPLY[@]}"`,
  ]);
  return stdout.toString().split('\n').filter(Boolean);
}

describe('completion', () => {
  it('offers commands, those within commands, options, and what an option takes', async () => {
    expect(await offered('')).toEqual(expect.arrayContaining(['provision', 'verify', 'bench', '--version']));
    expect(await offered('zer')).toEqual(['zeroize']);
    expect(await offered('maintenance', 'be')).toEqual(['begin']);
    expect(await offered('maintenance', 'begin', '--du')).toEqual(['--duration']);
    expect(await offered('stream', '--format', '')).toEqual(['raw', 'hex', 'base64']);
    expect(await offered('zeroize', '--json', '--level', 'd')).toEqual(['destroy']);
  });

  it('leaves to the shell what is a name of a file', async () => {
    expect(await offered('verify', '--policy', '')).toEqual([]);
    expect(await offered('run', '-I', 'e')).toEqual([]);
  });

  it('is for zsh, too, through its functions for bash', async () => {
    const { stdout } = await esoteric(['completion', 'zsh']);
    expect(stdout.toString()).toBe(`autoload -U +X bashcompinit && bashcompinit\n${script}`);
    expect(await esoteric(['completion', 'csh'])).toMatchObject({ status: 2 });
  });
});
