import { createPrivateKey, createPublicKey } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SecretArena } from '../../src/host/arena.ts';
import { storageRoot } from '../../src/keys/anchors.ts';
import {
  createSealedKey,
  generateKey,
  publicHalf,
  readSealedKey,
  type SealedKey,
  type SealingPolicy,
  sealedKeyPath,
  unsealKey,
} from '../../src/keys/sealed.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const srkHandle = 0x81000001;
const pcrs = [0, 7, 14];

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

describe('a sealed key', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-sealed-'));
  const arena = SecretArena.allocate();
  let swtpm: Swtpm;
  beforeAll(async () => {
    mkdirSync(join(directory, 'keys'));
    swtpm = await startSwtpm(join(directory, 'tpm'));
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    await storageRoot(tpm, srkHandle);
  });
  afterAll(async () => {
    await swtpm?.stop();
    arena[Symbol.dispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  async function withPolicy<T>(use: (policy: SealingPolicy) => Promise<T>): Promise<T> {
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    await using srk = await tpm.at(srkHandle);
    return await use({ tpm, srk, pcrs });
  }
  const sealed = (name: string): SealedKey => {
    const key = readSealedKey(directory, name);
    if (key === undefined) throw new Error(`There is no sealed key ${name}.`);
    return key;
  };

  it('comes back into the arena, with its public half, after being nowhere but in the TPM', async () => {
    const made = await withPolicy((policy) => createSealedKey(policy, arena, directory, 'wg0', 'wireguard'));
    expect(sealed('wg0')).toEqual(made);
    expect(made).toMatchObject({ name: 'wg0', purpose: 'wireguard', pcrs });
    const [first, second] = await withPolicy(async (policy) => [
      await unsealKey(policy, arena, sealed('wg0')),
      await unsealKey(policy, arena, sealed('wg0')),
    ]);
    if (first === undefined || second === undefined) throw new Error('nothing unsealed');
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
      await withPolicy(async (policy) => {
        const made = await createSealedKey(policy, arena, directory, purpose, purpose);
        expect(made.publicKey).toBeNull();
        using key = await unsealKey(policy, arena, made);
        expect(key.byteLength).toBe(length);
      });
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
      await withPolicy((policy) => createSealedKey(policy, arena, directory, 'damaged', 'seed'));
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
    await withPolicy(async (policy) => {
      const made = await createSealedKey(policy, arena, directory, 'bit', 'seed');
      const blob = Buffer.from(made.private, 'base64');
      blob[40] = (blob[40] ?? 0) ^ 1;
      await expect(
        unsealKey(policy, arena, { ...made, private: blob.toString('base64') }),
      ).rejects.toMatchObject({ code: 'tpm-foreign-blob' });
    });
  });

  it('does not open under fewer PCRs than it was sealed to', async () => {
    await withPolicy(async (policy) => {
      const made = await createSealedKey(policy, arena, directory, 'fewer', 'seed');
      await expect(unsealKey(policy, arena, { ...made, pcrs: [0, 7] })).rejects.toMatchObject({
        code: 'tpm-policy',
      });
    });
  });

  it('leaves no secret in the arena when it is made or refused', async () => {
    using own = SecretArena.allocate({ byteLength: 4096 });
    await withPolicy((policy) => createSealedKey(policy, own, directory, 'clean', 'seed'));
    using whole = own.take(4096, 'whole');
    expect(whole.bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('is refused for good once the cap PCR is extended', async () => {
    await withPolicy((policy) => createSealedKey(policy, arena, directory, 'capped', 'seed'));
    await withPolicy(async (policy) => {
      using key = await unsealKey(policy, arena, sealed('capped'));
      expect(key.byteLength).toBe(48);
      await policy.tpm.pcrExtend(14, { sha256: new Uint8Array(32).fill(1) });
      await expect(unsealKey(policy, arena, sealed('capped'))).rejects.toMatchObject({ code: 'tpm-policy' });
    });
  });
});
