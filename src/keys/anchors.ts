// The anchors of a node in its TPM: the storage root key (adopted where one is persisted), the attestation key under the
// endorsement hierarchy, the bundle signing key certified by it, and the bundle sequence counter. Each is found or made;
// a primary key follows from the TPM's seed and its template, so one that an interrupted run persisted is recognised.
import { z } from 'zod';
import { Failure } from '../host/failure.ts';
import type { Tpm } from '../tpm/context.ts';
import type { TpmObject } from '../tpm/object.ts';
import { publicKeyPem } from '../tpm/structures.ts';
import { attestationKey, signingKey, storageRootKey } from '../tpm/templates.ts';

const base64 = z.base64();

/** What the node keeps of its anchors. Binary members are base64, names hex. */
export const anchorsSchema = z.object({
  srk: z.object({ handle: z.int(), name: z.string(), adopted: z.boolean() }),
  ak: z.object({ handle: z.int(), name: z.string(), public: base64 }),
  signingKey: z.object({
    name: z.string(),
    public: base64,
    private: base64,
    certification: z.object({ attest: base64, signature: base64 }),
  }),
  /** NV index of the bundle sequence counter. */
  sequenceIndex: z.int(),
});
export type Anchors = z.infer<typeof anchorsSchema>;

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const base64Of = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
export const handleText = (handle: number): string => `0x${handle.toString(16).padStart(8, '0')}`;

/** Adopts the storage root key at `handle`, or makes and persists one. */
export async function storageRoot(tpm: Tpm, handle: number): Promise<Anchors['srk']> {
  if ((await tpm.persistentHandles()).includes(handle)) {
    const { name } = await tpm.readPublic(handle);
    return { handle, name: hexOf(name), adopted: true };
  }
  await using primary = await tpm.createPrimary('owner', storageRootKey);
  await tpm.persist(primary, 'owner', handle);
  return { handle, name: hexOf(primary.name), adopted: false };
}

/** The attestation key at `handle`, or at the first free handle after it where another object stands there. */
export async function attestationAnchor(tpm: Tpm, handle: number): Promise<Anchors['ak']> {
  await using primary = await tpm.createPrimary('endorsement', attestationKey);
  const taken = await tpm.persistentHandles();
  for (let candidate = handle; candidate < handle + 16; candidate += 1) {
    if (!taken.includes(candidate)) await tpm.persist(primary, 'endorsement', candidate);
    const { name, public: area } = await tpm.readPublic(candidate);
    if (hexOf(name) === hexOf(primary.name)) {
      return { handle: candidate, name: hexOf(name), public: base64Of(area) };
    }
  }
  throw new Failure('tpm-handles-taken', `Persistent handles from ${handleText(handle)} on are all taken.`, {
    kept: 'Nothing was evicted.',
    remedy: 'Give another tpm.ak_handle, or free one with tpm2_evictcontrol.',
  });
}

/** A new signing key under the storage root key, certified by the attestation key over `qualifyingData`. */
export async function createSigningKey(
  tpm: Tpm,
  srk: TpmObject,
  ak: TpmObject,
  qualifyingData: Uint8Array,
): Promise<Anchors['signingKey']> {
  const blob = await tpm.create(srk, signingKey);
  await using key = await tpm.load(srk, blob);
  const certification = await tpm.certify(key, ak, qualifyingData);
  return {
    name: hexOf(key.name),
    public: base64Of(blob.public),
    private: base64Of(blob.private),
    certification: {
      attest: base64Of(certification.attest),
      signature: base64Of(certification.signature),
    },
  };
}

/** The first NV index from `base` on that nobody has defined. */
export async function freeIndex(tpm: Tpm, base: number): Promise<number> {
  const taken = await tpm.nvIndices();
  let index = base;
  while (taken.includes(index)) index += 1;
  return index;
}

/** Defines the bundle sequence counter where it is not defined yet. */
export async function sequenceCounter(tpm: Tpm, index: number): Promise<void> {
  if ((await tpm.nvIndices()).includes(index)) return;
  await tpm.nvDefine(index, { attributes: 'counter', byteLength: 8 });
}

/** PEM of a key whose TPMT_PUBLIC is given in base64. */
export const pemOf = (area: string): string => publicKeyPem(Buffer.from(area, 'base64'));

/**
 * The storage root key as it was pinned at provisioning.
 * @throws Failure `tpm-swapped` when the TPM holds another key there, or none.
 */
export async function pinnedStorageRoot(tpm: Tpm, anchors: Anchors): Promise<TpmObject> {
  const { handle, name } = anchors.srk;
  const present = (await tpm.persistentHandles()).includes(handle)
    ? hexOf((await tpm.readPublic(handle)).name)
    : 'none';
  if (present !== name) {
    throw new Failure(
      'tpm-swapped',
      `This is not the TPM that the node was provisioned with: the storage root key at ${handleText(handle)} is ${present === 'none' ? 'missing' : 'another'}.`,
      {
        kept: 'Nothing was unsealed.',
        remedy:
          'Put the node back to its own TPM (check tpm.tcti), or provision it anew in another state directory.',
      },
    );
  }
  return await tpm.at(handle);
}
