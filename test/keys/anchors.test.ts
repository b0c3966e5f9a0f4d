import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Anchors,
  anchorsSchema,
  attestationAnchor,
  claimCounter,
  claimIndex,
  createSigningKey,
  freeIndex,
  handleText,
  pemOf,
  pinnedStorageRoot,
  planAttestationKey,
  planStorageRoot,
  releaseClaim,
  releaseIndex,
  releaseObject,
  storageRoot,
} from '../../src/keys/anchors.ts';
import { custodyDefinition } from '../../src/keys/indices.ts';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const srkHandle = 0x81000001;
const akHandle = 0x81010002;
const firstIndex = 0x01800000;
/** TPM_CC_ReadPublic. */
const readPublic = 0x173;

describe('the anchors of a node in its TPM', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-anchors-'));
  let swtpm: Swtpm;
  let tpm: Tpm;
  beforeAll(async () => {
    swtpm = await startSwtpm(join(directory, 'tpm'));
    tpm = await openTpm({ tcti: swtpm.tcti });
  });
  const rootAt = async (handle: number): Promise<Anchors['srk']> =>
    await storageRoot(tpm, await planStorageRoot(tpm, handle));
  const akAt = async (handle: number): Promise<Anchors['ak']> => {
    const made = await attestationAnchor(tpm, await planAttestationKey(tpm, handle));
    if (made === undefined) throw new Error('overtaken');
    return made;
  };
  const indices = { sequenceIndex: firstIndex, armedIndex: firstIndex + 1, custodyIndex: firstIndex + 2 };
  afterAll(async () => {
    await tpm?.close();
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('begin with a storage root key: made where there is none, adopted where there is one', async () => {
    const plan = await planStorageRoot(tpm, srkHandle);
    const made = await storageRoot(tpm, plan);
    expect(made).toMatchObject({ handle: srkHandle, adopted: false });
    // A run that was killed after persisting it comes back with the same plan, and knows it for its own.
    expect(await storageRoot(tpm, plan)).toEqual(made);
    expect(await rootAt(srkHandle)).toEqual({ ...made, adopted: true });
  });

  it('have an attestation key, recognised when it is asked for again', async () => {
    const plan = await planAttestationKey(tpm, akHandle);
    const made = await attestationAnchor(tpm, plan);
    if (made === undefined) throw new Error('overtaken');
    expect(made).toMatchObject({ handle: akHandle, adopted: false });
    expect(await attestationAnchor(tpm, plan)).toEqual(made);
    expect(await akAt(akHandle)).toEqual({ ...made, adopted: true });
    expect(createPublicKey(pemOf(made.public)).asymmetricKeyType).toBe('ec');
  });

  it('pass by what another has persisted, and evict nothing', async () => {
    const foreign = await rootAt(0x81010100);
    const moved = await akAt(0x81010100);
    expect(moved.handle).toBe(0x81010101);
    // Planned while it was free: somebody else was there first.
    expect(await attestationAnchor(tpm, { handle: 0x81010100, adopted: false })).toBeUndefined();
    await releaseObject(tpm, moved.handle, moved.name);
    await releaseObject(tpm, foreign.handle, moved.name); // It is not what stands there.
    expect(await tpm.persistentHandles()).toContain(foreign.handle);
    await releaseObject(tpm, foreign.handle, foreign.name);
    await releaseObject(tpm, foreign.handle, foreign.name);
    expect(await tpm.persistentHandles()).not.toContain(foreign.handle);
  });

  it('adopt nothing but a storage key', async () => {
    await expect(storageRoot(tpm, { handle: akHandle, adopted: true })).rejects.toMatchObject({
      code: 'srk-unsuitable',
      kept: expect.stringContaining('left as it is'),
    });
  });

  it('have a signing key that the attestation key certifies, in a form that can be stored', async () => {
    const srk = await rootAt(srkHandle);
    const ak = await akAt(akHandle);
    await using root = await tpm.at(srk.handle);
    await using attester = await tpm.at(ak.handle);
    const signingKey = await createSigningKey(tpm, root, attester, new Uint8Array(32));
    const anchors: Anchors = { srk, ak, signingKey, ...indices };
    expect(anchorsSchema.parse(JSON.parse(JSON.stringify(anchors)))).toEqual(anchors);
    expect(createPublicKey(pemOf(signingKey.public)).asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
    expect(Buffer.from(signingKey.certification.attest, 'base64').subarray(0, 4).toString('hex')).toBe(
      'ff544347',
    );
  });

  it('have a sequence counter at the first free index, which is defined once and never goes back', async () => {
    const index = await freeIndex(tpm, firstIndex);
    expect(index).toBe(firstIndex);
    expect(await claimCounter(tpm, index)).toBe(true);
    const first = await tpm.nvReadCounter(index);
    await tpm.nvIncrement(index);
    expect(await claimCounter(tpm, index)).toBe(true);
    expect(await tpm.nvReadCounter(index)).toBe(first + 1n);
    expect(await freeIndex(tpm, firstIndex)).toBe(firstIndex + 1);
  });

  it('never take an index of somebody else for theirs, and give back only their own', async () => {
    const [foreign, own] = [firstIndex + 0x10, firstIndex + 0x11];
    await tpm.nvDefine(foreign, { attributes: 'ordinary', byteLength: 8 });
    expect(await claimCounter(tpm, foreign)).toBe(false);
    expect(await claimIndex(tpm, foreign, custodyDefinition)).toBe(false);
    expect(await releaseClaim(tpm, foreign, custodyDefinition)).toBe(false);
    expect(await tpm.nvIndices()).toContain(foreign);
    expect(await claimIndex(tpm, own, custodyDefinition)).toBe(true);
    expect(await claimIndex(tpm, own, custodyDefinition)).toBe(true);
    expect(await releaseClaim(tpm, own, custodyDefinition)).toBe(true);
    expect(await releaseClaim(tpm, own, custodyDefinition)).toBe(true);
    await releaseIndex(tpm, foreign);
    await releaseIndex(tpm, foreign);
    expect(await tpm.nvIndices()).not.toContain(foreign);
  });

  it('are pinned: another storage root key, or none, is a swapped TPM', async () => {
    const srk = await rootAt(srkHandle);
    const ak = await akAt(akHandle);
    const pinned = (name: string, handle = srkHandle): Anchors => ({
      srk: { ...srk, name, handle },
      ak,
      signingKey: { name: '', public: '', private: '', certification: { attest: '', signature: '' } },
      ...indices,
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

  it('are pinned so that the key found is the key used, whatever somebody on the bus answers later', async () => {
    const srk = await rootAt(srkHandle);
    const ak = await akAt(akHandle);
    const signingKey = { name: '', public: '', private: '', certification: { attest: '', signature: '' } };
    for (let honest = 0; honest <= 3; honest++) {
      await using between = await interposed(swtpm, join(directory, 'between.sock'), honest);
      await using other = await openTpm({ tcti: between.tcti });
      const root = await pinnedStorageRoot(other, { srk, ak, signingKey, ...indices }).catch(
        (error: unknown) => error,
      );
      if (honest === 0) expect(root).toMatchObject({ code: 'tpm-swapped' });
      else expect(root).toHaveProperty('name', Uint8Array.from(Buffer.from(srk.name, 'hex')));
    }
  });

  it('are named by handles as the TPM tools write them', () => {
    expect(handleText(srkHandle)).toBe('0x81000001');
    expect(handleText(1)).toBe('0x00000001');
  });
});

/** Carries commands to a TPM, and after so many honest answers shows the attestation key for every key that is asked for. */
async function interposed(
  { directory }: Swtpm,
  path: string,
  honest: number,
): Promise<AsyncDisposable & { readonly tcti: string }> {
  let asked = 0;
  const server = createServer({ allowHalfOpen: true }, (client) => {
    client.once('data', (command) => {
      if (command.readUInt32BE(6) === readPublic && asked++ >= honest) command.writeUInt32BE(akHandle, 10);
      const tpm = connect({ path: join(directory, 'swtpm.sock'), allowHalfOpen: true });
      tpm.end(command);
      tpm.pipe(client);
    });
  });
  server.listen(path);
  await once(server, 'listening');
  return {
    tcti: `swtpm:path=${path}`,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}
