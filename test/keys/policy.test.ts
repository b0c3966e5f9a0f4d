import { sign } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SecretBuffer } from '../../src/host/arena.ts';
import { signedStateOf } from '../../src/keys/approval.ts';
import {
  keyPolicy,
  policyRefOf,
  satisfyApproved,
  satisfyRecovery,
  signRecovery,
} from '../../src/keys/policy.ts';
import {
  destroyShare,
  type SharedBlob,
  sealWithShare,
  shareDefinition,
  unsealWithShare,
} from '../../src/keys/share.ts';
import type { PolicySession } from '../../src/tpm/session.ts';
import { copiesOutside, masked } from '../tpm/memory.ts';
import { capPcr, counterIndex, newAuthority, type Opened, Scene, wireguard } from './scene.ts';

const capped = { sha256: new Uint8Array(32).fill(0xca) };
const policyRefusal = { code: 'tpm-policy', layer: 'tpm' };
const same = (a: SecretBuffer, b: SecretBuffer) => Buffer.compare(a.bytes, b.bytes) === 0;

describe.each(['swtpm', 'pcap'] as const)('a key sealed under an approval and a share, over %s', (way) => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await Scene.start(way);
  });
  afterAll(async () => {
    await scene?.[Symbol.asyncDispose]();
  });

  it('opens with an approval of the present state, for each length that keys have', async () => {
    await using vault = await scene.open();
    for (const byteLength of [32, 48]) {
      const { secret, blob } = await scene.seal(vault, wireguard, byteLength);
      using opened = await scene.unsealApproved(vault, blob, await scene.approve(vault.tpm));
      expect(same(opened, secret)).toBe(true);
    }
  });

  it('leaves no copy of key, share or payload in the memory of the process outside the arena', async () => {
    await using vault = await scene.open();
    const { blob } = await scene.seal(vault, wireguard);
    const approval = await scene.approve(vault.tpm);
    const copies = () => scene.lastSecrets.map((secret) => copiesOutside(scene.arena, masked(secret)));
    expect(copies()).toEqual([0, 0, 0]);
    using approved = await scene.unsealApproved(vault, blob, approval);
    using recovered = await scene.unsealRecovered(vault, blob);
    expect(same(approved, recovered)).toBe(true);
    expect(copies()).toEqual([0, 0, 0]);
  });

  it('opens after an update with a new approval, and nothing is resealed', async () => {
    await using vault = await scene.open();
    const { secret, blob } = await scene.seal(vault, wireguard);
    const before = await scene.approve(vault.tpm);
    await vault.tpm.pcrExtend(7, { sha256: new Uint8Array(32).fill(7) });
    await expect(scene.unsealApproved(vault, blob, before)).rejects.toMatchObject(policyRefusal);
    using opened = await scene.unsealApproved(vault, blob, await scene.approve(vault.tpm));
    expect(same(opened, secret)).toBe(true);
  });

  it('is held by the armed counter alone, also after a TPM reset', async () => {
    const { blob, approval } = await withVault(async (vault) => {
      const { blob } = await scene.seal(vault, wireguard);
      const approval = await scene.approve(vault.tpm);
      (await scene.unsealApproved(vault, blob, approval))[Symbol.dispose]();
      await vault.tpm.nvIncrement(counterIndex);
      await expect(scene.unsealApproved(vault, blob, approval)).rejects.toMatchObject({
        ...policyRefusal,
        rc: 0x126,
        message: expect.stringContaining('counter is not at the value approved'),
        remedy: expect.stringContaining('new approval'),
      });
      return { blob, approval };
    });
    await scene.swtpm.restart();
    await using vault = await scene.open();
    // The reset took PCR 7 back: only the counter differs from what an approval of this state would say.
    const fresh = await scene.approve(vault.tpm);
    const old = { ...fresh, counter: String(BigInt(fresh.counter) - 1n) };
    await expect(scene.unsealApproved(vault, blob, old)).rejects.toMatchObject({ rc: 0x126 });
    await expect(scene.unsealApproved(vault, blob, approval)).rejects.toMatchObject(policyRefusal);
    (await scene.unsealApproved(vault, blob, fresh))[Symbol.dispose]();
  });

  it('is held by the cap PCR alone, until a TPM reset', async () => {
    const { secret, blob, approval } = await withVault(async (vault) => {
      const sealed = await scene.seal(vault, wireguard);
      const approval = await scene.approve(vault.tpm);
      await vault.tpm.pcrExtend(capPcr, capped);
      await expect(scene.unsealApproved(vault, sealed.blob, approval)).rejects.toMatchObject({
        ...policyRefusal,
        message: expect.stringContaining('PCRs are not those approved'),
      });
      return { ...sealed, approval };
    });
    await scene.swtpm.restart();
    await using vault = await scene.open();
    using opened = await scene.unsealApproved(vault, blob, approval);
    expect(same(opened, secret)).toBe(true);
  });

  it('is held by its share alone: kept copies of the blob open nothing, with every signature there is', async () => {
    await using vault = await scene.open();
    const { secret, blob } = await scene.seal(vault, wireguard);
    const approval = await scene.approve(vault.tpm);
    (await scene.unsealRecovered(vault, blob))[Symbol.dispose]();
    await destroyShare(vault.tpm, blob.shareIndex);
    await destroyShare(vault.tpm, blob.shareIndex);
    const destroyed = { code: 'share-destroyed' };
    await expect(scene.unsealApproved(vault, blob, approval)).rejects.toMatchObject(destroyed);
    await expect(scene.unsealRecovered(vault, blob)).rejects.toMatchObject(destroyed);
    // Another share in its place opens the blob to something, but not to the key.
    await vault.tpm.nvDefine(blob.shareIndex, shareDefinition(32));
    await vault.tpm.nvWrite(blob.shareIndex, new Uint8Array(32));
    using noise = await scene.unsealRecovered(vault, blob);
    expect(same(noise, secret)).toBe(false);
    await destroyShare(vault.tpm, blob.shareIndex);
  });

  it('is opened by the recovery key although the counter moved and the PCR is capped', async () => {
    await using vault = await scene.open();
    const { secret, blob } = await scene.seal(vault, wireguard);
    await vault.tpm.nvIncrement(counterIndex);
    await vault.tpm.pcrExtend(capPcr, capped);
    using opened = await scene.unsealRecovered(vault, blob);
    expect(same(opened, secret)).toBe(true);
  });

  it('is not opened by a recovery signature of another session, of another key or for another key', async () => {
    await using vault = await scene.open();
    const { blob } = await scene.seal(vault, wireguard);
    let recorded = new Uint8Array();
    const record = (message: Uint8Array) => {
      recorded = Uint8Array.from(sign('sha256', message, scene.recovery.privateKey));
      return recorded;
    };
    (await scene.unsealRecovered(vault, blob, wireguard, record))[Symbol.dispose]();
    const replayed = scene.unsealRecovered(vault, blob, wireguard, () => recorded);
    await expect(replayed).rejects.toMatchObject(policyRefusal);
    const stranger = newAuthority();
    const forged = scene.unsealRecovered(vault, blob, wireguard, (message) =>
      signRecovery(message, wireguard, stranger.privateKey),
    );
    await expect(forged).rejects.toMatchObject(policyRefusal);
    const other = { ...wireguard, purpose: 'macsec' };
    const foreign = scene.unsealRecovered(vault, blob, wireguard, (message) =>
      signRecovery(message, other, scene.recovery.privateKey),
    );
    await expect(foreign).rejects.toMatchObject({ code: 'recovery-foreign' });
    // Even where the recovery key signs for that other key, the session is of no use for this one.
    await expect(scene.unsealRecovered(vault, blob, other)).rejects.toMatchObject(policyRefusal);
  });

  it.each([
    { what: 'node', replayed: { ...wireguard, node: 'beta' } },
    { what: 'purpose', replayed: { ...wireguard, purpose: 'macsec' } },
    { what: 'key', replayed: { ...wireguard, name: 'wg1' } },
  ])('is not opened by an approval of the same state for another $what', async ({ replayed }) => {
    await using vault = await scene.open();
    const { blob } = await scene.seal(vault, wireguard);
    const approval = await scene.approve(vault.tpm, { node: replayed.node, keys: [replayed] });
    const state = signedStateOf(approval, replayed);
    for (const policy of [scene.policyOf(wireguard), scene.policyOf(replayed)]) {
      const attempt = unsealAs(vault, blob, (session) => satisfyApproved(vault.tpm, session, policy, state));
      await expect(attempt).rejects.toMatchObject(policyRefusal);
    }
    expect(() => signedStateOf(approval, wireguard)).toThrow(
      expect.objectContaining({ code: 'approval-incomplete' }),
    );
  });

  it('is not opened by an approval of another signer, nor by the recovery key in the signer’s place', async () => {
    await using vault = await scene.open();
    const { blob } = await scene.seal(vault, wireguard);
    for (const signer of [newAuthority(), scene.recovery]) {
      const approval = await scene.approve(vault.tpm, { signer });
      await expect(scene.unsealApproved(vault, blob, approval)).rejects.toMatchObject(policyRefusal);
      const policy = keyPolicy(wireguard, { signer: signer.pem, recovery: newAuthority().pem });
      const state = signedStateOf(approval, wireguard);
      const attempt = unsealAs(vault, blob, (session) => satisfyApproved(vault.tpm, session, policy, state));
      await expect(attempt).rejects.toMatchObject(policyRefusal);
    }
    const policy = keyPolicy(wireguard, { signer: scene.recovery.pem, recovery: scene.signer.pem });
    const attempt = unsealAs(vault, blob, (session) =>
      satisfyRecovery(vault.tpm, session, policy, (message) =>
        signRecovery(message, wireguard, scene.signer.privateKey),
      ),
    );
    await expect(attempt).rejects.toMatchObject(policyRefusal);
  });

  it('is not opened by root, who undefines the armed counter and defines it again', async () => {
    await using vault = await scene.open();
    const { tpm } = vault;
    const { blob } = await scene.seal(vault, wireguard);
    const approval = await scene.approve(tpm);
    const armed = await tpm.nvReadCounter(counterIndex);
    await tpm.nvIncrement(counterIndex); // locked
    await tpm.nvUndefine(counterIndex);
    await expect(scene.unsealApproved(vault, blob, approval)).rejects.toMatchObject({
      code: 'tpm-no-object',
    });
    await tpm.nvDefine(counterIndex, { attributes: 'counter', byteLength: 8 });
    await expect(scene.unsealApproved(vault, blob, approval)).rejects.toMatchObject({
      code: 'tpm-nv-unwritten',
    });
    await tpm.nvIncrement(counterIndex);
    expect(await tpm.nvReadCounter(counterIndex)).toBeGreaterThan(armed);
    await expect(scene.unsealApproved(vault, blob, approval)).rejects.toMatchObject({ rc: 0x126 });
  });

  it('is not opened by root, who puts an ordinary index with the right number in the counter’s place', async () => {
    await using vault = await scene.open();
    const { tpm } = vault;
    const { blob } = await scene.seal(vault, wireguard);
    const approval = await scene.approve(tpm);
    const number = Buffer.alloc(8);
    number.writeBigUInt64BE(await tpm.nvReadCounter(counterIndex));
    await tpm.nvUndefine(counterIndex);
    await tpm.nvDefine(counterIndex, { attributes: 'ordinary', byteLength: 8 });
    await tpm.nvWrite(counterIndex, number);
    await expect(scene.unsealApproved(vault, blob, approval)).rejects.toMatchObject(policyRefusal);
    await expect(scene.approve(tpm)).rejects.toMatchObject({ code: 'approval-unsafe' });
    await tpm.nvUndefine(counterIndex);
    await tpm.nvDefine(counterIndex, { attributes: 'counter', byteLength: 8 });
    await tpm.nvIncrement(counterIndex);
  });

  it('is not opened by a session that was made ready before the lock', async () => {
    await using vault = await scene.open();
    const { blob } = await scene.seal(vault, wireguard);
    const policy = scene.policyOf(wireguard);
    const state = signedStateOf(await scene.approve(vault.tpm), wireguard);
    const attempt = unsealAs(vault, blob, async (session) => {
      await satisfyApproved(vault.tpm, session, policy, state);
      await vault.tpm.pcrExtend(capPcr, capped);
    });
    await expect(attempt).rejects.toMatchObject({ ...policyRefusal, rc: 0x128 });
  });

  it('is told to be damaged when its file says another length than the TPM', async () => {
    await using vault = await scene.open();
    const { blob } = await scene.seal(vault, wireguard);
    const approval = await scene.approve(vault.tpm);
    const shorter = scene.unsealApproved(vault, { ...blob, byteLength: 16 }, approval);
    await expect(shorter).rejects.toMatchObject({ code: 'sealed-key-invalid' });
    const longer = scene.unsealApproved(vault, { ...blob, byteLength: 48 }, approval);
    await expect(longer).rejects.toMatchObject({ code: 'tpm-nv' });
    expect(() => vault.tpm.nvReadSecret(blob.shareIndex, 513, {} as PolicySession, scene.arena, 'x')).toThrow(
      RangeError,
    );
  });

  it('gives the index of the share back when sealing fails, and takes none that is in use', async () => {
    await using vault = await scene.open();
    const indices = await vault.tpm.nvIndices();
    const tooLong = vault.arena.take(129, 'too long');
    const digest = scene.policyOf(wireguard).digest;
    await expect(sealWithShare(vault, tooLong, 0x01800f00, digest)).rejects.toThrow('128 bytes');
    await expect(sealWithShare(vault, tooLong, counterIndex, digest)).rejects.toMatchObject({
      code: 'tpm-nv-defined',
    });
    tooLong[Symbol.dispose]();
    expect(await vault.tpm.nvIndices()).toEqual(indices);
  });

  /** Runs `work` with a connection that is closed before this returns. */
  async function withVault<T>(work: (vault: Opened) => Promise<T>): Promise<T> {
    await using vault = await scene.open();
    return await work(vault);
  }

  if (way === 'swtpm') return;

  it('never showed the key, its share or its payload on the bus', () => {
    const { captured, secrets, seen } = scene.sightings();
    expect(scene.captured(policyRefOf(wireguard)), 'the search finds what is there').toBe(true);
    expect(captured).toBeGreaterThan(10_000);
    expect(secrets).toBeGreaterThan(30);
    expect(seen).toBe(0);
  });
});

describe('a key policy', () => {
  it('wants two different keys, both ECDSA P-256', () => {
    const { pem } = newAuthority();
    expect(() => keyPolicy(wireguard, { signer: pem, recovery: pem })).toThrow(
      expect.objectContaining({ code: 'signers-equal' }),
    );
  });

  it('tells keys apart whose names only run together alike', () => {
    const hex = (node: string, name: string) =>
      Buffer.from(policyRefOf({ node, name, purpose: 'wireguard' })).toString('hex');
    expect(hex('alpha', 'wg0')).not.toBe(hex('alphaw', 'g0'));
    expect(hex('alpha', 'wg0')).toBe(hex('alpha', 'wg0'));
  });
});

function unsealAs(
  vault: Opened,
  blob: SharedBlob,
  satisfy: (session: PolicySession) => Promise<void>,
): Promise<SecretBuffer> {
  return unsealWithShare(vault, blob, 'attempt', satisfy);
}
