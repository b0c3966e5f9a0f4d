import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CustodyLog } from '../../src/custody/log.ts';
import { changeNames, commitmentTo, isCommitment } from '../../src/custody/names.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-names-'));
  path = join(directory, 'custody.jsonl');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const detail = {
  cause: 'link-flap',
  interface: 'eth-to-headquarters',
  interfaces: ['eth-to-headquarters', 'eth-to-berlin'],
  also: [
    { cause: 'tamper', interface: null },
    { cause: 'link-flap', interface: 'eth-to-berlin' },
  ],
  stages: { tpm: { result: 'done' } },
  reason: 'Anna replaces the cable',
};

describe('names in the custody log', () => {
  it('are commitments in the file, and names to whoever reads it on the node', () => {
    {
      using log = CustodyLog.open(path);
      log.append('zeroized', detail);
    }
    const written = readFileSync(path, 'utf8');
    for (const name of ['headquarters', 'berlin', 'Anna']) expect(written).not.toContain(name);
    for (const word of ['link-flap', 'tamper', 'done']) expect(written).toContain(word);
    using log = CustodyLog.open(path);
    expect([...log.records()][0]?.detail).toEqual(detail);
    for (const file of ['custody-names.key', 'custody-names.jsonl'])
      expect(statSync(join(directory, file)).mode & 0o777).toBe(0o600);
  });

  it('are the same commitment wherever they stand, and can be proven with the key', () => {
    using log = CustodyLog.open(path);
    log.append('one', { interface: 'eth0' });
    log.append('two', { interfaces: ['eth0'] });
    const key = readFileSync(join(directory, 'custody-names.key'));
    const commitment = commitmentTo(key, 'eth0');
    expect(readFileSync(path, 'utf8').split(commitment)).toHaveLength(3);
    expect(
      commitmentTo(
        key.map((byte) => byte ^ 1),
        'eth0',
      ),
    ).not.toBe(commitment);
  });

  it('stay commitments where the table is lost, and the log stays whole', () => {
    {
      using log = CustodyLog.open(path);
      log.append('one', { interface: 'eth0' });
    }
    writeFileSync(join(directory, 'custody-names.jsonl'), '{"torn');
    using log = CustodyLog.open(path);
    expect(isCommitment(String([...log.records()][0]?.detail.interface))).toBe(true);
    log.append('two', { interface: 'eth0' });
    expect([...log.records()].map((record) => record.detail.interface)).toEqual(['eth0', 'eth0']);
  });

  it('are not written under a key that is damaged', () => {
    writeFileSync(join(directory, 'custody-names.key'), 'short');
    using log = CustodyLog.open(path);
    expect(() => log.append('one', { interface: 'eth0' })).toThrow(
      expect.objectContaining({ code: 'custody-key-damaged' }),
    );
    log.append('two', { without: 'a name' });
    expect(log.head().sequence).toBe(1);
  });

  it('are found at any depth, and nothing else is touched', () => {
    fc.assert(
      fc.property(fc.object({ maxDepth: 3 }), fc.string({ minLength: 1 }), (other, name) => {
        const before = { ...other, deep: [{ interface: name }], count: 7 };
        const seen: string[] = [];
        const after = changeNames(before, (text) => {
          seen.push(text);
          return text;
        });
        expect(seen).toContain(name);
        expect(JSON.stringify(after)).toBe(JSON.stringify(before));
      }),
    );
  });
});
