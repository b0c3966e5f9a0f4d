import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/appliance/config.ts';
import { keysOf, loadProfile } from '../../src/appliance/profile.ts';

const root = resolve(import.meta.dirname, '../..');
const directory = mkdtempSync(join(tmpdir(), 'ea-profile-'));
afterAll(() => rmSync(directory, { recursive: true }));

function write(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

describe('profiles', () => {
  const shipped = readdirSync(join(root, 'provisioning')).filter((name) => name.endsWith('.toml'));

  it.each(shipped)('%s is valid, named after its role, and gives its nodes a WireGuard key', (name) => {
    const profile = loadProfile(join(root, 'provisioning', name));
    expect(profile.role).toBe(basename(name, '.toml'));
    expect(profile.keys).toContainEqual({ name: 'wireguard', purpose: 'wireguard' });
  });

  it('refuse two keys of one name', () => {
    const key = '[[keys]]\nname = "a"\npurpose = "seed"\n';
    const head = 'format = "esoteric-appliance-profile/1"\nrole = "x"\ndescription = "y"\n';
    expect(() => loadProfile(write('twice.toml', head + key + key))).toThrow(
      'twice.toml:4: keys: expected keys of different names',
    );
  });

  it('are completed by the keys of the configuration, which wins', () => {
    const config = loadConfig({
      path: write(
        'config.toml',
        '[[keys]]\nname = "drbg-seed"\npurpose = "macsec"\n[[keys]]\nname = "cak"\npurpose = "macsec"\n',
      ),
    });
    expect(keysOf(loadProfile(join(root, 'provisioning/relay.toml')), config)).toEqual([
      { name: 'wireguard', purpose: 'wireguard' },
      { name: 'drbg-seed', purpose: 'macsec' },
      { name: 'cak', purpose: 'macsec' },
    ]);
  });
});
