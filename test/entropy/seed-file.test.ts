import { randomFillSync } from 'node:crypto';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { SeedFile, type SeedFileOptions } from '../../src/entropy/seed-file.ts';
import { SecretArena } from '../../src/host/arena.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-seed-'));
afterAll(() => rmSync(directory, { recursive: true }));
const arena = SecretArena.allocate({ allowSwappable: true });
const key = arena.take(32, 'seed key');
randomFillSync(key.bytes);
let files = 0;
const at = (): string => join(directory, `seed-${files++}`);

function taken(options: SeedFileOptions): { state: string; mixed: string } {
  using file = SeedFile.take(options);
  const into = new Uint8Array(48);
  file.mixInto(into);
  return { state: file.state, mixed: Buffer.from(into).toString('hex') };
}

describe.each([
  ['sealed', key],
  ['plain', undefined],
] as const)('a %s seed file', (kind, under) => {
  const options = (path: string): SeedFileOptions => ({
    path,
    arena,
    ...(under === undefined ? {} : { key: under }),
  });

  it('is made where there is none, replaced before it is used, and gives something else each time', () => {
    const path = at();
    expect(taken(options(path)).state).toBe('fresh');
    const before = readFileSync(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    using file = SeedFile.take(options(path));
    expect(file.state).toBe('taken');
    expect(readFileSync(path)).not.toEqual(before);
    expect(readFileSync(path)).toHaveLength(136);
  });

  it('that was cloned leaves two machines with different successors', () => {
    const path = at();
    taken(options(path));
    const clone = at();
    copyFileSync(path, clone);
    expect(taken(options(path)).mixed).toBe(taken(options(clone)).mixed);
    expect(taken(options(path)).mixed).not.toBe(taken(options(clone)).mixed);
  });

  it('that is damaged is refused, told and replaced', () => {
    const path = at();
    writeFileSync(path, 'not a seed file');
    expect(taken(options(path)).state).toBe('refused');
    expect(taken(options(path)).state).toBe('taken');
  });

  it('can be left by the pool', () => {
    const path = at();
    SeedFile.leave(options(path), (out) => out.fill(0x41));
    const stored = readFileSync(path);
    expect(stored.includes(Buffer.alloc(64, 0x41))).toBe(kind === 'plain');
    expect(taken(options(path)).state).toBe('taken');
  });
});

describe('a sealed seed file', () => {
  it('is refused under another key, and when any byte is flipped', () => {
    const path = at();
    taken({ path, arena, key });
    const good = readFileSync(path);
    for (let i = 0; i < good.length; i += 5) {
      const bad = Buffer.from(good);
      bad[i] = (bad[i] ?? 0) ^ 1;
      writeFileSync(path, bad);
      expect(taken({ path, arena, key }).state).toBe('refused');
    }
    using other = arena.take(32, 'another key');
    writeFileSync(path, good);
    expect(taken({ path, arena, key: other }).state).toBe('refused');
  });

  it('that cannot be replaced is not used', () => {
    const path = join(directory, 'missing', 'seed');
    expect(() => SeedFile.take({ path, arena, key })).toThrow('ENOENT');
    chmodSync(directory, 0o700);
  });
});
