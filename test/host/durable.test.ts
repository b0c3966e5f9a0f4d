import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readIfPresent, removeDurable, writeDurably } from '../../src/host/durable.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-durable-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('a durable file', () => {
  it('is there with its content and mode, and nothing beside it', () => {
    const path = join(directory, 'one', 'file');
    mkdirSync(join(directory, 'one'));
    writeDurably(path, 'text');
    expect(readFileSync(path, 'utf8')).toBe('text');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    writeDurably(path, Uint8Array.of(1, 2, 3), 0o644);
    expect([...readFileSync(path)]).toEqual([1, 2, 3]);
    expect(statSync(path).mode & 0o777).toBe(0o644);
    expect(readdirSync(join(directory, 'one'))).toEqual(['file']);
  });

  it('is read where it is, is undefined where it is not, and any other trouble is told', () => {
    const path = join(directory, 'present');
    expect(readIfPresent(path)).toBeUndefined();
    writeDurably(path, 'here');
    expect(readIfPresent(path)).toBe('here');
    expect(() => readIfPresent(directory)).toThrow('EISDIR');
  });

  it('is removed with what killed writers left beside it, and nothing else', () => {
    const folder = join(directory, 'removed');
    mkdirSync(folder);
    for (const name of ['file', 'file.12.new', 'file.345.new', 'file.x.new', 'file.new', 'other.12.new']) {
      writeDurably(join(folder, name), 'x');
    }
    removeDurable(join(folder, 'file'));
    expect(readdirSync(folder).sort()).toEqual(['file.new', 'file.x.new', 'other.12.new']);
    removeDurable(join(folder, 'file'));
  });

  it('keeps its old content, and nothing beside it, when it cannot be replaced', () => {
    const folder = join(directory, 'target');
    mkdirSync(join(folder, 'is-a-directory'), { recursive: true });
    expect(() => writeDurably(join(folder, 'is-a-directory'), 'x')).toThrow();
    expect(readdirSync(folder)).toEqual(['is-a-directory']);
    chmodSync(folder, 0o700);
  });

  it('is whole, old or new, whenever its writer is killed', async () => {
    const path = join(directory, 'killed');
    const whole = (letter: string): string => letter.repeat(300_000);
    writeDurably(path, whole('a'));
    const program = `
      const { writeDurably } = await import(${JSON.stringify(new URL('../../src/host/durable.ts', import.meta.url).href)});
      process.stdout.write('ready');
      for (let n = 0; ; n += 1) writeDurably(${JSON.stringify(path)}, 'abcd'[n % 4].repeat(300_000));`;
    for (let round = 0; round < 8; round += 1) {
      const writer = spawn(process.execPath, ['--input-type=module', '--eval', program], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await once(writer.stdout, 'data');
      await new Promise((resolve) => setTimeout(resolve, 3 + round * 4.7));
      writer.kill('SIGKILL');
      await once(writer, 'exit');
      const content = readFileSync(path, 'utf8');
      expect(['a', 'b', 'c', 'd'].some((letter) => content === whole(letter))).toBe(true);
    }
  });
});
