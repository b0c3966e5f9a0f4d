// Sealed keys: generated in the secret arena, sealed in the TPM under a PCR policy, kept on disk as blobs that only this TPM
// opens in the state that it was sealed to (docs/security.md).
import { randomFillSync } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { x25519PublicKey } from '../host/openssl.ts';
import type { Tpm } from '../tpm/context.ts';
import type { TpmObject } from '../tpm/object.ts';
import { sealedData } from '../tpm/templates.ts';

export type KeyPurpose = 'wireguard' | 'macsec' | 'seed';

/** Bytes of each purpose: an X25519 private key; a CAK of 256 bits; a DRBG seed of 384 bits. */
const keyLength: Record<KeyPurpose, number> = { wireguard: 32, macsec: 32, seed: 48 };

const schema = z.object({
  format: z.literal('esoteric-appliance-sealed-key/1'),
  name: z.string(),
  purpose: z.enum(['wireguard', 'macsec', 'seed']),
  /** Base64; null where the purpose has no public half. */
  publicKey: z.string().nullable(),
  /** PCRs (SHA-256 bank) of the policy. */
  pcrs: z.array(z.int()),
  public: z.base64(),
  private: z.base64(),
});
export type SealedKey = z.infer<typeof schema>;

/** What a key is sealed to: the parent, and the PCRs whose present values open it. */
export interface SealingPolicy {
  readonly tpm: Tpm;
  readonly srk: TpmObject;
  readonly pcrs: readonly number[];
}

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

/** Generates, seals and stores a key; the plaintext is wiped before this returns. */
export async function createSealedKey(
  policy: SealingPolicy,
  arena: SecretArena,
  stateDirectory: string,
  name: string,
  purpose: KeyPurpose,
): Promise<SealedKey> {
  using key = generateKey(arena, name, purpose);
  await using trial = await policy.tpm.startPolicySession(policy.srk, 'trial');
  await trial.policyPcr([...policy.pcrs]);
  const blob = await policy.tpm.create(policy.srk, sealedData(await trial.digest()), key);
  const sealed: SealedKey = {
    format: 'esoteric-appliance-sealed-key/1',
    name,
    purpose,
    publicKey: publicHalf(key, purpose),
    pcrs: [...policy.pcrs],
    public: Buffer.from(blob.public).toString('base64'),
    private: Buffer.from(blob.private).toString('base64'),
  };
  writeDurably(sealedKeyPath(stateDirectory, name), `${JSON.stringify(sealed, null, 2)}\n`);
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

/**
 * Unseals into the arena through an encrypted session.
 * @throws TpmError `tpm-policy` when the PCRs are not those that it was sealed to.
 */
export async function unsealKey(
  policy: SealingPolicy,
  arena: SecretArena,
  sealed: SealedKey,
): Promise<SecretBuffer> {
  await using object = await policy.tpm.load(policy.srk, {
    public: Buffer.from(sealed.public, 'base64'),
    private: Buffer.from(sealed.private, 'base64'),
  });
  await using session = await policy.tpm.startPolicySession(policy.srk, 'policy');
  await session.policyPcr([...sealed.pcrs]);
  return await policy.tpm.unseal(object, session, arena, sealed.name);
}
