import { createPrivateKey, createPublicKey } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SecretArena, type SecretBuffer } from '../../src/host/arena.ts';
import { signedStateOf } from '../../src/keys/approval.ts';
import { policyRefOf, satisfyApproved } from '../../src/keys/policy.ts';
import {
  createSealedKey,
  generateKey,
  type KeyPurpose,
  publicHalf,
  readSealedKey,
  type SealedKey,
  sealedKeyPath,
  sealedKeysIn,
  unsealKey,
} from '../../src/keys/sealed.ts';
import type { Vault } from '../../src/keys/share.ts';
import { capPcr, newAuthority, Scene } from './scene.ts';

describe('a fresh key', () => {
  it('is clamped as X25519 wants it, and gives the public half that node:crypto computes', () => {
    using arena = SecretArena.allocate();
    for (let n = 0; n < 20; n += 1) {
      using key = generateKey(arena, 'wg', 'wireguard');
      const [first = 255, last = 255] = [key.bytes[0], key.bytes[31]];
      expect([first & 7, last & 0xc0]).toEqual([0, 0x40]);
      const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), key.bytes]);
      const theirs = createPublicKey(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
      const raw = theirs.export({ format: 'der', type: 'spki' }).subarray(-32);
      expect(publicHalf(key, 'wireguard')).toBe(raw.toString('base64'));
    }
  });

  it('has the length of its purpose, no public half unless it is for WireGuard, and is another each time', () => {
    using arena = SecretArena.allocate();
    using cak = generateKey(arena, 'cak', 'macsec');
    using seed = generateKey(arena, 'seed', 'seed');
    using other = generateKey(arena, 'seed', 'seed');
    expect([cak.byteLength, seed.byteLength]).toEqual([32, 48]);
    expect(publicHalf(cak, 'macsec')).toBeNull();
    expect(Buffer.compare(seed.bytes, other.bytes)).not.toBe(0);
  });
});

describe.each(['swtpm', 'pcap'] as const)('a sealed key, over %s', (way) => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-sealed-'));
  const arena = SecretArena.allocate();
  let scene: Scene;
  let nextShare = 0x01800100;
  beforeAll(async () => {
    mkdirSync(join(directory, 'keys'));
    scene = await Scene.start(way);
  });
  afterAll(async () => {
    await scene?.[Symbol.asyncDispose]();
    arena[Symbol.dispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  const make = async (vault: Vault, name: string, purpose: KeyPurpose): Promise<SealedKey> =>
    await createSealedKey({ ...vault, arena }, directory, {
      identity: { node: 'alpha', name, purpose },
      authorities: { signer: scene.signer.pem, recovery: scene.recovery.pem },
      shareIndex: nextShare++,
    });
  /** With an approval of the present state, made for it. */
  const open = async (vault: Vault, key: SealedKey): Promise<SecretBuffer> => {
    const approval = await scene.approve(vault.tpm, { keys: [key] });
    return await unsealKey({ ...vault, arena }, key, (tpm, session, policy) =>
      satisfyApproved(tpm, session, policy, signedStateOf(approval, key)),
    );
  };
  const sealed = (name: string): SealedKey => {
    const key = readSealedKey(directory, name);
    if (key === undefined) throw new Error(`There is no sealed key ${name}.`);
    return key;
  };

  it('comes back into the arena, with its public half, after being nowhere but in the TPM', async () => {
    await using vault = await scene.open();
    const made = await make(vault, 'wg0', 'wireguard');
    expect(sealed('wg0')).toEqual(made);
    expect(made).toMatchObject({ node: 'alpha', name: 'wg0', purpose: 'wireguard', byteLength: 32 });
    expect(sealedKeysIn(directory)).toEqual([made]);
    const first = await open(vault, sealed('wg0'));
    const second = await open(vault, sealed('wg0'));
    expect(publicHalf(first, 'wireguard')).toBe(made.publicKey);
    expect(Buffer.compare(first.bytes, second.bytes)).toBe(0);
    const file = readFileSync(sealedKeyPath(directory, 'wg0'));
    for (const form of ['hex', 'base64'] as const) {
      expect(file.includes(Buffer.from(first.bytes).toString(form))).toBe(false);
    }
    first[Symbol.dispose]();
    second[Symbol.dispose]();
  });

  it.each([['macsec', 32] as const, ['seed', 48] as const])(
    'of purpose %s has no public half and %i bytes',
    async (purpose, length) => {
      await using vault = await scene.open();
      const made = await make(vault, purpose, purpose);
      expect(made.publicKey).toBeNull();
      using key = await open(vault, made);
      expect(key.byteLength).toBe(length);
    },
  );

  it('is undefined where there is none', () => {
    expect(readSealedKey(directory, 'absent')).toBeUndefined();
  });

  it.each([
    ['not JSON', () => '{'],
    ['empty', () => ''],
    ['of another format', (key: SealedKey) => JSON.stringify({ ...key, format: 'other/1' })],
    ['without a blob', (key: SealedKey) => JSON.stringify({ ...key, private: undefined })],
    ['of an unknown purpose', (key: SealedKey) => JSON.stringify({ ...key, purpose: 'other' })],
    ['not base64', (key: SealedKey) => JSON.stringify({ ...key, public: '???' })],
  ])('is a failure with a remedy, and is left as it is, when its file is %s', async (_, damage) => {
    if (readSealedKey(directory, 'damaged') === undefined) {
      await using vault = await scene.open();
      await make(vault, 'damaged', 'seed');
    }
    const path = sealedKeyPath(directory, 'damaged');
    const before = readFileSync(path);
    const text = damage(sealed('damaged'));
    writeFileSync(path, text);
    expect(() => readSealedKey(directory, 'damaged')).toThrow(
      expect.objectContaining({
        code: 'sealed-key-invalid',
        message: expect.stringContaining(path),
        kept: 'Nothing was overwritten.',
      }),
    );
    expect(readFileSync(path, 'utf8')).toBe(text);
    writeFileSync(path, before);
  });

  it('is refused by the TPM when one bit of its blob has changed', async () => {
    await using vault = await scene.open();
    const made = await make(vault, 'bit', 'seed');
    const blob = Buffer.from(made.private, 'base64');
    blob[40] = (blob[40] ?? 0) ^ 1;
    await expect(open(vault, { ...made, private: blob.toString('base64') })).rejects.toMatchObject({
      code: 'tpm-foreign-blob',
    });
  });

  it('opens to nobody whose key was written into its file: the TPM holds the policy', async () => {
    await using vault = await scene.open();
    const made = await make(vault, 'usurped', 'seed');
    const usurper = newAuthority();
    const approval = await scene.approve(vault.tpm, { keys: [made], signer: usurper });
    const forged = { ...made, authorities: { signer: usurper.pem, recovery: made.authorities.recovery } };
    await expect(
      unsealKey({ ...vault, arena }, forged, (tpm, session, policy) =>
        satisfyApproved(tpm, session, policy, signedStateOf(approval, made)),
      ),
    ).rejects.toMatchObject({ code: 'tpm-policy' });
  });

  it('leaves no secret in the arena when it is made or refused', async () => {
    using own = SecretArena.allocate({ byteLength: 4096 });
    await using vault = await scene.open();
    await createSealedKey({ ...vault, arena: own }, directory, {
      identity: { node: 'alpha', name: 'clean', purpose: 'seed' },
      authorities: { signer: scene.signer.pem, recovery: scene.recovery.pem },
      shareIndex: nextShare++,
    });
    using whole = own.take(4096, 'whole');
    expect(whole.bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('is refused once the cap PCR is extended', async () => {
    await using vault = await scene.open();
    const made = await make(vault, 'capped', 'seed');
    const approval = await scene.approve(vault.tpm, { keys: [made] });
    const unseal = () =>
      unsealKey({ ...vault, arena }, made, (tpm, session, policy) =>
        satisfyApproved(tpm, session, policy, signedStateOf(approval, made)),
      );
    (await unseal())[Symbol.dispose]();
    await vault.tpm.pcrExtend(capPcr, { sha256: new Uint8Array(32).fill(1) });
    await expect(unseal()).rejects.toMatchObject({ code: 'tpm-policy' });
  });

  if (way === 'swtpm') return;

  it('never crossed the bus in clear, from its sealing on', async () => {
    await using vault = await scene.open();
    const key = sealed('wg0');
    using opened = await open(vault, key);
    // Of the connections that are closed: the search finds what is there.
    expect(scene.captured(policyRefOf(key))).toBe(true);
    expect(scene.captured(opened.bytes)).toBe(false);
  });
});
