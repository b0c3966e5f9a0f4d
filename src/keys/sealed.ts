// Sealed keys: generated in the secret arena, sealed in the TPM under a policy (policy.ts) and with a share in NV (share.ts),
// kept on disk as blobs that only this TPM opens, in a state that was approved.
import { randomFillSync } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { x25519PublicKey } from '../host/openssl.ts';
import { z } from '../host/zod.ts';
import type { Tpm } from '../tpm/context.ts';
import type { PolicySession } from '../tpm/session.ts';
import { releaseClaim } from './anchors.ts';
import { type KeyIdentity, type KeyPolicy, keyPolicy, type PolicyAuthorities } from './policy.ts';
import { sealWithShare, shareDefinition, unsealWithShare, type Vault } from './share.ts';

export type KeyPurpose = 'wireguard' | 'macsec' | 'seed';

/** Bytes of each purpose: an X25519 private key; a CAK of 256 bits; a DRBG seed of 384 bits. */
export const keyLength: Record<KeyPurpose, number> = { wireguard: 32, macsec: 32, seed: 48 };

const schema = z.object({
  format: z.literal('esoteric-appliance-sealed-key/1'),
  node: z.string(),
  name: z.string(),
  purpose: z.enum(['wireguard', 'macsec', 'seed']),
  /** Base64; null where the purpose has no public half. */
  publicKey: z.string().nullable(),
  /** PEM of the two keys that can open it. Another key here leads to another policy than the TPM holds, and opens nothing. */
  authorities: z.object({ signer: z.string(), recovery: z.string() }),
  /** NV index of the share. */
  shareIndex: z.int(),
  byteLength: z.int().min(32).max(48),
  public: z.base64(),
  private: z.base64(),
});
export type SealedKey = z.infer<typeof schema>;

export const sealedKeyPath = (stateDirectory: string, name: string): string =>
  join(stateDirectory, 'keys', `${name}.json`);

/** A fresh key of a purpose, in the arena. */
export function generateKey(arena: SecretArena, name: string, purpose: KeyPurpose): SecretBuffer {
  const key = arena.take(keyLength[purpose], name);
  randomFillSync(key.bytes);
  if (purpose === 'wireguard') {
    // RFC 7748, section 5: the clamped form, so that every implementation reads the same scalar.
    key.bytes[0] = (key.bytes[0] ?? 0) & 248;
    key.bytes[31] = ((key.bytes[31] ?? 0) & 127) | 64;
  }
  return key;
}

/** Base64 of the public half, or null where there is none. */
export const publicHalf = (key: SecretBuffer, purpose: KeyPurpose): string | null =>
  purpose === 'wireguard' ? Buffer.from(x25519PublicKey(key)).toString('base64') : null;

/** How a key is to be sealed: for whom, to whose signatures, and where its share goes. */
export interface Sealing {
  readonly identity: KeyIdentity & { readonly purpose: KeyPurpose };
  readonly authorities: PolicyAuthorities;
  /** A free NV index. */
  readonly shareIndex: number;
}

/** Generates, seals and stores a key; the plaintext is wiped before this returns. */
export async function createSealedKey(
  vault: Vault,
  stateDirectory: string,
  sealing: Sealing,
): Promise<SealedKey> {
  const { name, purpose } = sealing.identity;
  using key = generateKey(vault.arena, name, purpose);
  return await sealKey(vault, stateDirectory, sealing, key);
}

/** Seals and stores a key that exists; a file of the same name is replaced in one step. */
export async function sealKey(
  vault: Vault,
  stateDirectory: string,
  { identity, authorities, shareIndex }: Sealing,
  key: SecretBuffer,
): Promise<SealedKey> {
  const { digest } = keyPolicy(identity, authorities);
  const blob = await sealWithShare(vault, key, shareIndex, digest);
  const sealed: SealedKey = {
    format: 'esoteric-appliance-sealed-key/1',
    ...identity,
    publicKey: publicHalf(key, identity.purpose),
    authorities: { ...authorities },
    shareIndex: blob.shareIndex,
    byteLength: blob.byteLength,
    public: Buffer.from(blob.public).toString('base64'),
    private: Buffer.from(blob.private).toString('base64'),
  };
  writeDurably(sealedKeyPath(stateDirectory, identity.name), `${JSON.stringify(sealed, null, 2)}\n`);
  return sealed;
}

/** @throws Failure `sealed-key-invalid` for a file that is not a sealed key; undefined where there is none. */
export function readSealedKey(stateDirectory: string, name: string): SealedKey | undefined {
  const path = sealedKeyPath(stateDirectory, name);
  const text = readIfPresent(path);
  if (text === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new Failure('sealed-key-invalid', `The sealed key ${path} is damaged.`, {
      kept: 'Nothing was overwritten.',
      remedy: 'Restore the file from a copy, or remove it and provision again (which makes a new key).',
      cause,
    });
  }
}

/** All sealed keys of a state directory, also those that no record names. */
export function sealedKeysIn(stateDirectory: string): SealedKey[] {
  const directory = join(stateDirectory, 'keys');
  if (!existsSync(directory)) return [];
  const names = readdirSync(directory).filter((file) => file.endsWith('.json'));
  return names.flatMap((file) => readSealedKey(stateDirectory, file.slice(0, -'.json'.length)) ?? []);
}

/**
 * Gives back the index of a share that its key does not use any more. False where it has come to be another key's, whose share
 * would be destroyed, or somebody else's.
 */
export async function reclaimShare(
  tpm: Tpm,
  stateDirectory: string,
  shareIndex: number,
  byteLength: number,
): Promise<boolean> {
  if (sealedKeysIn(stateDirectory).some((sealed) => sealed.shareIndex === shareIndex)) return false;
  return await releaseClaim(tpm, shareIndex, shareDefinition(byteLength));
}

/** What brings a session to the policy of a key: an approval, or the recovery key. */
export type Satisfy = (tpm: Tpm, session: PolicySession, policy: KeyPolicy) => Promise<void>;

/**
 * Unseals into the arena through an encrypted session.
 * @throws TpmError `tpm-policy` when the TPM does not find the policy satisfied; Failure `share-destroyed`.
 */
export function unsealKey(vault: Vault, sealed: SealedKey, satisfy: Satisfy): Promise<SecretBuffer> {
  const policy = keyPolicy(sealed, sealed.authorities);
  const blob = {
    shareIndex: sealed.shareIndex,
    byteLength: sealed.byteLength,
    public: Buffer.from(sealed.public, 'base64'),
    private: Buffer.from(sealed.private, 'base64'),
  };
  return unsealWithShare(vault, blob, sealed.name, (session) => satisfy(vault.tpm, session, policy));
}
