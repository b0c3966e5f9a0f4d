// A sealed key in two halves that are worth nothing apart: the TPM seals the key XOR a random share of the same length, and
// the share lies in an NV index of its own. Once the index is undefined, every copy of the blob opens to noise, whoever
// opens it. The share is not guarded by itself: the owner may read it, and it says nothing about the key.
import { randomFillSync } from 'node:crypto';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { Failure } from '../host/failure.ts';
import type { Tpm } from '../tpm/context.ts';
import type { NvDefinition } from '../tpm/nv-public.ts';
import type { ObjectBlob, TpmObject } from '../tpm/object.ts';
import { TpmError } from '../tpm/responses.ts';
import type { PolicySession } from '../tpm/session.ts';
import { sealedData } from '../tpm/templates.ts';
import { releaseIndex } from './anchors.ts';

/** Where keys are sealed and opened: the storage root key is the parent and salts every session. */
export interface Vault {
  readonly tpm: Tpm;
  readonly srk: TpmObject;
  readonly arena: SecretArena;
}

/** What is kept of a key outside the TPM. */
export interface SharedBlob extends ObjectBlob {
  /** NV index of the share. */
  readonly shareIndex: number;
  /** Of the key and of the share: 32 to 48. */
  readonly byteLength: number;
}

/** The owner's, with no lockout counted: destroying it must never wait for one. */
export const shareDefinition = (byteLength: number): NvDefinition => ({
  attributes: 'ordinary',
  byteLength,
  access: ['ownerWrite', 'ownerRead', 'noDA'],
});

/**
 * Seals `key` to a policy digest, with a fresh share at a free NV index. When it fails, the index is given back.
 * @throws TpmError `tpm-nv-defined` when the index is taken; `tpm-nv-full`.
 */
export async function sealWithShare(
  { tpm, srk, arena }: Vault,
  key: SecretBuffer,
  shareIndex: number,
  authPolicy: Uint8Array,
): Promise<SharedBlob> {
  const { byteLength } = key;
  await tpm.nvDefine(shareIndex, shareDefinition(byteLength));
  try {
    using share = arena.take(byteLength, `${key.label} (share)`);
    randomFillSync(share.bytes);
    await tpm.nvWriteSecret(srk, shareIndex, share);
    exclusiveOr(share, key); // The share becomes the payload, so that neither lies about longer than it must.
    return { ...(await tpm.create(srk, sealedData(authPolicy), share)), shareIndex, byteLength };
  } catch (error) {
    await destroyShare(tpm, shareIndex).catch(() => {});
    throw error;
  }
}

/**
 * Opens a key into the arena. `satisfy` brings the session to the key's policy (policy.ts).
 * @throws Failure `share-destroyed`; TpmError `tpm-policy`, `tpm-foreign-blob`.
 */
export async function unsealWithShare(
  { tpm, srk, arena }: Vault,
  blob: SharedBlob,
  label: string,
  satisfy: (session: PolicySession) => Promise<void>,
): Promise<SecretBuffer> {
  await using session = await tpm.startPolicySession(srk, 'policy');
  using share = await readShare({ tpm, arena }, blob, session, label);
  await satisfy(session);
  await using object = await tpm.load(srk, blob);
  const key = await tpm.unseal(object, session, arena, label);
  if (key.byteLength !== share.byteLength) {
    key[Symbol.dispose]();
    throw new Failure('sealed-key-invalid', `The sealed key "${label}" and its share differ in length.`, {
      kept: 'Nothing was overwritten.',
      remedy: 'Restore the key’s file from a copy, or provision the node anew.',
    });
  }
  exclusiveOr(key, share);
  return key;
}

/** Undefines the share; safe to repeat. What kept copies of the blob still open to is noise. */
export const destroyShare: (tpm: Tpm, shareIndex: number) => Promise<void> = releaseIndex;

async function readShare(
  { tpm, arena }: Pick<Vault, 'tpm' | 'arena'>,
  { shareIndex, byteLength }: SharedBlob,
  session: PolicySession,
  label: string,
): Promise<SecretBuffer> {
  try {
    return await tpm.nvReadSecret(shareIndex, byteLength, session, arena, `${label} (share)`);
  } catch (error) {
    if (!isGone(error)) throw error;
    throw new Failure('share-destroyed', `The TPM no longer holds its half of key "${label}".`, {
      kept: 'The sealed key is intact, but nothing opens it any more, the recovery key included.',
      remedy: 'Provision the node anew, and retire its identity at the policy signer and at its peers.',
      cause: error,
    });
  }
}

const isGone = (error: unknown): boolean => error instanceof TpmError && error.code === 'tpm-no-object';

function exclusiveOr(target: SecretBuffer, mask: SecretBuffer): void {
  const [into, from] = [target.bytes, mask.bytes];
  for (let at = 0; at < into.length; at++) into[at] = (into[at] ?? 0) ^ (from[at] ?? 0);
}
