import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answers, kdfA, makeCredential, newChallenge } from '../../src/attestation/credential.ts';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import { attestationKey, endorsementKeyEcc, signingKey, storageRootKey } from '../../src/tpm/templates.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const kinds = ['rsa', 'ecc'] as const;

describe('a credential', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-credential-'));
  let swtpm: Swtpm;
  let other: Swtpm;
  let tpm: Tpm;
  beforeAll(async () => {
    swtpm = await startSwtpm(join(directory, 'one'));
    other = await startSwtpm(join(directory, 'other'));
    tpm = await openTpm({ tcti: swtpm.tcti });
  });
  afterAll(async () => {
    await tpm?.close();
    await swtpm?.stop();
    await other?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it.each(kinds)('is activated by the TPM that holds both keys (%s)', async (kind) => {
    await using ek = await tpm.endorsementKey(kind);
    await using ak = await tpm.createPrimary('endorsement', attestationKey);
    for (const challenge of [newChallenge(), randomBytes(1)]) {
      const answer = await tpm.activateCredential(ek, ak, makeCredential(ek.public, ak.name, challenge));
      expect(answers(challenge, answer)).toBe(true);
    }
  });

  it.each(kinds)('is refused for another key of the same TPM (%s)', async (kind) => {
    await using ek = await tpm.endorsementKey(kind);
    await using ak = await tpm.createPrimary('endorsement', attestationKey);
    await using another = await tpm.createPrimary('owner', signingKey);
    const credential = makeCredential(ek.public, ak.name, newChallenge());
    await expect(tpm.activateCredential(ek, another, credential)).rejects.toMatchObject({ layer: 'tpm' });
  });

  it.each(kinds)('is refused by another TPM, and after any change (%s)', async (kind) => {
    await using elsewhere = await openTpm({ tcti: other.tcti });
    await using theirEk = await elsewhere.endorsementKey(kind);
    await using ek = await tpm.endorsementKey(kind);
    await using ak = await tpm.createPrimary('endorsement', attestationKey);
    const theirs = makeCredential(theirEk.public, ak.name, newChallenge());
    await expect(tpm.activateCredential(ek, ak, theirs)).rejects.toMatchObject({ layer: 'tpm' });
    const { idObject, encryptedSecret } = makeCredential(ek.public, ak.name, newChallenge());
    for (const at of [2, 33, 34, idObject.length - 1]) {
      const changed = Uint8Array.from(idObject);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const attempt = tpm.activateCredential(ek, ak, { idObject: changed, encryptedSecret });
      await expect(attempt).rejects.toMatchObject({ layer: 'tpm' });
    }
  });

  it('is made only for a restricted decryption key, and of a size that fits', async () => {
    const code = (work: () => unknown) =>
      expect(work).toThrow(expect.objectContaining({ code: 'endorsement-key-unsuitable' }));
    code(() => makeCredential(attestationKey, new Uint8Array(34), newChallenge()));
    await using ek = await tpm.createPrimary('owner', storageRootKey);
    expect(() => makeCredential(ek.public, ek.name, new Uint8Array(33))).toThrow('1 to 32 bytes');
    expect(() => makeCredential(ek.public, ek.name, new Uint8Array())).toThrow('1 to 32 bytes');
    expect(() => makeCredential(endorsementKeyEcc, ek.name, newChallenge())).toThrow(
      expect.objectContaining({ code: 'tpm-structure-invalid' }),
    );
  });

  it('has an answer that is the challenge, whole', () => {
    const challenge = newChallenge();
    expect(challenge).toHaveLength(32);
    expect(answers(challenge, challenge.slice())).toBe(true);
    expect(answers(challenge, challenge.subarray(1))).toBe(false);
    expect(answers(challenge, newChallenge())).toBe(false);
  });

  it('derives as many bits as asked for, the first of them the same', () => {
    const derive = (bits: number) =>
      kdfA('sha256', new Uint8Array(32), 'LABEL', new Uint8Array(), new Uint8Array(), bits);
    expect(derive(128)).toHaveLength(16);
    expect(derive(512)).toHaveLength(64);
    // The number of bits is part of what is hashed.
    expect(Buffer.compare(derive(512).subarray(0, 16), derive(128))).not.toBe(0);
  });
});
