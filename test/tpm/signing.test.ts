import { createHash, verify } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import type { TpmObject } from '../../src/tpm/object.ts';
import type { SignedAttest } from '../../src/tpm/signing.ts';
import { nameOf, parseAttest, parsePublic, publicKeyPem, signatureDer } from '../../src/tpm/structures.ts';
import { attestationKey, signingKey, storageRootKey } from '../../src/tpm/templates.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const sha256 = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();

function isSignedBy(key: TpmObject, { attest, signature }: SignedAttest): boolean {
  return verify('sha256', attest, publicKeyPem(key.public), signatureDer(signature));
}

describe('what the TPM signs', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-sign-'));
  let swtpm: Swtpm;
  let tpm: Tpm;
  let ak: TpmObject;
  beforeAll(async () => {
    swtpm = await startSwtpm(directory);
    tpm = await openTpm({ tcti: swtpm.tcti });
    ak = await tpm.createPrimary('endorsement', attestationKey);
  });
  afterAll(async () => {
    await tpm?.close();
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('quotes PCRs over the qualifying data, by a restricted key', async () => {
    await tpm.pcrExtend(7, { sha256: sha256(Buffer.from('event')) });
    const nonce = sha256(Buffer.from('archive'));
    const quote = await tpm.quote(ak, nonce, [0, 7]);
    expect(isSignedBy(ak, quote)).toBe(true);
    const statement = parseAttest(quote.attest);
    expect(Buffer.from(statement.extraData)).toEqual(nonce);
    expect(statement.quote?.selections).toEqual([{ bank: 'sha256', pcrs: [0, 7] }]);
    const values = await tpm.pcrRead('sha256', [0, 7]);
    expect(Buffer.from(statement.quote?.digest ?? [])).toEqual(sha256(...values.values()));
    expect(parsePublic(ak.public)).toMatchObject({
      restricted: true,
      sign: true,
      fixedTPM: true,
      noDA: true,
    });
  });

  it('does not verify after any byte of the statement changed', async () => {
    const quote = await tpm.quote(ak, new Uint8Array(32), [0]);
    for (let at = 0; at < quote.attest.byteLength; at += 7) {
      const attest = Uint8Array.from(quote.attest);
      attest[at] = (attest[at] ?? 0) ^ 1;
      expect(isSignedBy(ak, { ...quote, attest })).toBe(false);
    }
  });

  it('certifies the signing key by Name, and the signing key signs any digest', async () => {
    await using root = await tpm.createPrimary('owner', storageRootKey);
    const blob = await tpm.create(root, signingKey);
    await root[Symbol.asyncDispose](); // swtpm has room for three transient objects
    await using key = await reload(blob);
    const certification = await tpm.certify(key, ak, sha256(Buffer.from('purpose')));
    expect(isSignedBy(ak, certification)).toBe(true);
    expect(Buffer.from(parseAttest(certification.attest).certify?.name ?? [])).toEqual(nameOf(key.public));
    const message = Buffer.from('a statement');
    const signature = await tpm.sign(key, sha256(message));
    expect(verify('sha256', message, publicKeyPem(key.public), signature)).toBe(true);
  });

  it('does not let the restricted key sign a digest from outside', async () => {
    await expect(tpm.sign(ak, sha256(Buffer.from('forged statement')))).rejects.toMatchObject({
      layer: 'tpm',
    });
  });

  it('refuses qualifying data that does not fit', async () => {
    expect(() => tpm.quote(ak, new Uint8Array(65), [0])).toThrow(RangeError);
  });

  async function reload(blob: { public: Uint8Array; private: Uint8Array }): Promise<TpmObject> {
    await using root = await tpm.createPrimary('owner', storageRootKey);
    return await tpm.load(root, blob);
  }
});
