// The policy of a relying party: the shipped file says what the defaults say, and a wrong one is refused with its line.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultVerifyPolicy, readVerifyPolicy } from '../../src/forensics/verify-policy.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-policy-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const read = (text: string) => {
  const path = join(directory, 'verify.toml');
  writeFileSync(path, text);
  return readVerifyPolicy(path);
};

describe('the verify policy', () => {
  it('as shipped is the default', () => {
    expect(readVerifyPolicy(join(import.meta.dirname, '../../policies/verify.toml'))).toEqual(
      defaultVerifyPolicy,
    );
    expect(read('')).toEqual(defaultVerifyPolicy);
    expect(defaultVerifyPolicy.mayBeUnproven).toEqual([]);
  });

  it('takes claims, identity and single limits', () => {
    const policy = read(
      'may_be_unproven = ["time", "TPM identity"]\n[identity]\nsubject = "a@b"\nissuer = "https://i"\n[limits]\nmembers = 7\n',
    );
    expect(policy.mayBeUnproven).toEqual(['time', 'TPM identity']);
    expect(policy.identity).toEqual({ subject: 'a@b', issuer: 'https://i' });
    expect(policy.limits).toEqual({ ...defaultVerifyPolicy.limits, members: 7 });
  });

  it('refuses claims and keys that it does not know', () => {
    expect(() => read('may_be_unproven = ["luck"]\n')).toThrow(/verify\.toml:1: .*archive integrity/);
    expect(() => read('[limits]\nmember = 7\n')).toThrow(/did you mean `members`/);
  });
});
