import { createPublicKey } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Anchors,
  anchorsSchema,
  attestationAnchor,
  createSigningKey,
  freeIndex,
  handleText,
  pemOf,
  pinnedStorageRoot,
  sequenceCounter,
  storageRoot,
} from '../../src/keys/anchors.ts';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const srkHandle = 0x81000001;
const akHandle = 0x81010002;
const firstIndex = 0x01800000;

describe('the anchors of a node in its TPM', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-anchors-'));
  let swtpm: Swtpm;
  let tpm: Tpm;
  beforeAll(async () => {
    swtpm = await startSwtpm(join(directory, 'tpm'));
    tpm = await openTpm({ tcti: swtpm.tcti });
  });
  afterAll(async () => {
    await tpm?.close();
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('begin with a storage root key: made where there is none, adopted where there is one', async () => {
    const made = await storageRoot(tpm, srkHandle);
    expect(made).toMatchObject({ handle: srkHandle, adopted: false });
    expect(await storageRoot(tpm, srkHandle)).toEqual({ ...made, adopted: true });
  });

  it('have an attestation key, recognised when it is asked for again', async () => {
    const made = await attestationAnchor(tpm, akHandle);
    expect(made.handle).toBe(akHandle);
    expect(await attestationAnchor(tpm, akHandle)).toEqual(made);
    expect(createPublicKey(pemOf(made.public)).asymmetricKeyType).toBe('ec');
  });

  it('pass by what another has persisted, and evict nothing', async () => {
    await storageRoot(tpm, 0x81010100);
    const moved = await attestationAnchor(tpm, 0x81010100);
    expect(moved.handle).toBe(0x81010101);
    await tpm.unpersist(moved.handle, 'owner');
    await tpm.unpersist(0x81010100, 'owner');
  });

  it('have a signing key that the attestation key certifies, in a form that can be stored', async () => {
    const srk = await storageRoot(tpm, srkHandle);
    const ak = await attestationAnchor(tpm, akHandle);
    await using root = await tpm.at(srk.handle);
    await using attester = await tpm.at(ak.handle);
    const signingKey = await createSigningKey(tpm, root, attester, new Uint8Array(32));
    const anchors: Anchors = { srk, ak, signingKey, sequenceIndex: firstIndex };
    expect(anchorsSchema.parse(JSON.parse(JSON.stringify(anchors)))).toEqual(anchors);
    expect(createPublicKey(pemOf(signingKey.public)).asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
    expect(Buffer.from(signingKey.certification.attest, 'base64').subarray(0, 4).toString('hex')).toBe(
      'ff544347',
    );
  });

  it('have a sequence counter at the first free index, which is defined once and never goes back', async () => {
    const index = await freeIndex(tpm, firstIndex);
    expect(index).toBe(firstIndex);
    await sequenceCounter(tpm, index);
    await tpm.nvIncrement(index);
    const value = await tpm.nvReadCounter(index);
    await sequenceCounter(tpm, index);
    expect(await tpm.nvReadCounter(index)).toBe(value);
    expect(await freeIndex(tpm, firstIndex)).toBe(firstIndex + 1);
  });

  it('are pinned: another storage root key, or none, is a swapped TPM', async () => {
    const srk = await storageRoot(tpm, srkHandle);
    const ak = await attestationAnchor(tpm, akHandle);
    const pinned = (name: string, handle = srkHandle): Anchors => ({
      srk: { ...srk, name, handle },
      ak,
      signingKey: { name: '', public: '', private: '', certification: { attest: '', signature: '' } },
      sequenceIndex: firstIndex,
    });
    await using root = await pinnedStorageRoot(tpm, pinned(srk.name));
    expect(Buffer.from(root.name).toString('hex')).toBe(srk.name);
    await expect(pinnedStorageRoot(tpm, pinned(ak.name))).rejects.toMatchObject({
      code: 'tpm-swapped',
      message: expect.stringContaining('another'),
      kept: 'Nothing was unsealed.',
    });
    await expect(pinnedStorageRoot(tpm, pinned(srk.name, 0x81000009))).rejects.toMatchObject({
      code: 'tpm-swapped',
      message: expect.stringContaining('0x81000009 is missing'),
    });
  });

  it('are named by handles as the TPM tools write them', () => {
    expect(handleText(srkHandle)).toBe('0x81000001');
    expect(handleText(1)).toBe('0x00000001');
  });
});
