// The anchors of a node in its TPM: the storage root key (adopted where one is persisted), the attestation key under the
// endorsement hierarchy, the bundle signing key certified by it, and three NV indices: the bundle sequence counter, the armed
// counter that approvals name, and the custody head. Each is planned first and made after the plan is on the medium, so that
// what an interrupted run left in the TPM is known for ours, and what others left there is never taken for it.
import { z } from 'zod';
import { Failure } from '../host/failure.ts';
import type { Tpm } from '../tpm/context.ts';
import { type NvDefinition, ownerAndAuth } from '../tpm/nv.ts';
import type { TpmObject } from '../tpm/object.ts';
import { TpmError } from '../tpm/responses.ts';
import { parsePublic, publicKeyPem } from '../tpm/structures.ts';
import { attestationKey, signingKey, storageRootKey } from '../tpm/templates.ts';

const base64 = z.base64();

/** What the node keeps of its anchors. Binary members are base64, names hex. `adopted`: it was there before the node. */
export const anchorsSchema = z.object({
  srk: z.object({ handle: z.int(), name: z.string(), adopted: z.boolean() }),
  ak: z.object({ handle: z.int(), name: z.string(), public: base64, adopted: z.boolean() }),
  signingKey: z.object({
    name: z.string(),
    public: base64,
    private: base64,
    certification: z.object({ attest: base64, signature: base64 }),
  }),
  /** NV index of the bundle sequence counter. */
  sequenceIndex: z.int(),
  /** NV index of the armed counter: an approval is for one of its values. */
  armedIndex: z.int(),
  /** NV index that the heads of the custody log are extended into. */
  custodyIndex: z.int(),
});
export type Anchors = z.infer<typeof anchorsSchema>;

/** Where a persistent object is to stand, and whether it stands there already. */
export interface PersistentPlan {
  readonly handle: number;
  readonly adopted: boolean;
}

/** Counters start above every value that any counter of this TPM ever had, so undefining one never turns it back. */
export const counterDefinition: NvDefinition = { attributes: 'counter', byteLength: 8 };
export const custodyDefinition: NvDefinition = { attributes: 'extend', byteLength: 32 };

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const base64Of = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
export const handleText = (handle: number): string => `0x${handle.toString(16).padStart(8, '0')}`;

export async function planStorageRoot(tpm: Tpm, handle: number): Promise<PersistentPlan> {
  return { handle, adopted: (await tpm.persistentHandles()).includes(handle) };
}

/**
 * Adopts the storage root key at the planned handle, or makes and persists one.
 * @throws Failure `srk-unsuitable` where something else than a storage key stands there.
 */
export async function storageRoot(tpm: Tpm, { handle, adopted }: PersistentPlan): Promise<Anchors['srk']> {
  if (!(await tpm.persistentHandles()).includes(handle)) {
    await using primary = await tpm.createPrimary('owner', storageRootKey);
    await tpm.persist(primary, 'owner', handle);
    return { handle, name: hexOf(primary.name), adopted };
  }
  const { name, public: area } = await tpm.readPublic(handle);
  const key = parsePublic(area);
  if (!key.restricted || !key.decrypt || !key.fixedTPM || !key.fixedParent) {
    throw new Failure(
      'srk-unsuitable',
      `What stands at ${handleText(handle)} is no storage key of this TPM.`,
      {
        kept: 'It was left as it is, and nothing was made under it.',
        remedy: 'Give the handle of the storage root key in tpm.srk_handle, or a free one, where it is made.',
      },
    );
  }
  return { handle, name: hexOf(name), adopted };
}

/** At `handle`, or at the first handle after it that is free or holds this very key. */
export async function planAttestationKey(tpm: Tpm, handle: number): Promise<PersistentPlan> {
  await using primary = await tpm.createPrimary('endorsement', attestationKey);
  const taken = await tpm.persistentHandles();
  for (let candidate = handle; candidate < handle + 16; candidate += 1) {
    if (!taken.includes(candidate)) return { handle: candidate, adopted: false };
    const { name } = await tpm.readPublic(candidate);
    if (hexOf(name) === hexOf(primary.name)) return { handle: candidate, adopted: true };
  }
  throw new Failure('tpm-handles-taken', `Persistent handles from ${handleText(handle)} on are all taken.`, {
    kept: 'Nothing was evicted.',
    remedy: 'Give another tpm.ak_handle, or free one with tpm2_evictcontrol.',
  });
}

/** A primary key follows from the TPM's seed and its template: one that was persisted is recognised. Undefined where
 * another object has come to stand there since it was planned. */
export async function attestationAnchor(
  tpm: Tpm,
  { handle, adopted }: PersistentPlan,
): Promise<Anchors['ak'] | undefined> {
  await using primary = await tpm.createPrimary('endorsement', attestationKey);
  if (!(await tpm.persistentHandles()).includes(handle)) await tpm.persist(primary, 'endorsement', handle);
  const { name, public: area } = await tpm.readPublic(handle);
  if (hexOf(name) !== hexOf(primary.name)) return undefined;
  return { handle, name: hexOf(name), public: base64Of(area), adopted };
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

/** Defines the index where it does not stand as defined already; false where it is somebody else's. */
export async function claimIndex(tpm: Tpm, index: number, definition: NvDefinition): Promise<boolean> {
  if ((await tpm.nvIndices()).includes(index)) return await isDefinedSo(tpm, index, definition);
  await tpm.nvDefine(index, definition);
  return true;
}

/** As `claimIndex`, and incremented once: before that, a counter has neither a value nor the Name that it keeps. */
export async function claimCounter(tpm: Tpm, index: number): Promise<boolean> {
  if (!(await claimIndex(tpm, index, counterDefinition))) return false;
  if (!(await tpm.nvPublic(index)).attributes.includes('written')) await tpm.nvIncrement(index);
  return true;
}

async function isDefinedSo(tpm: Tpm, index: number, definition: NvDefinition): Promise<boolean> {
  const { kind, attributes, byteLength, authPolicy } = await tpm.nvPublic(index);
  const found = attributes.filter((attribute) => attribute !== 'written');
  const wanted = definition.access ?? ownerAndAuth;
  return (
    kind === definition.attributes &&
    byteLength === definition.byteLength &&
    authPolicy.length === 0 &&
    found.length === wanted.length &&
    found.every((attribute) => wanted.includes(attribute))
  );
}

/** Gives an index back where it stands as defined here, or is gone; false where it is somebody else's. */
export async function releaseClaim(tpm: Tpm, index: number, definition: NvDefinition): Promise<boolean> {
  if (!(await tpm.nvIndices()).includes(index)) return true;
  if (!(await isDefinedSo(tpm, index, definition))) return false;
  await tpm.nvUndefine(index);
  return true;
}

/** Gives an index back; one that is gone already is no failure. */
export async function releaseIndex(tpm: Tpm, index: number): Promise<void> {
  await tpm.nvUndefine(index).catch(ifAbsent);
}

/** Evicts a persistent object; one that is gone already is no failure. */
export async function releaseHandle(tpm: Tpm, handle: number): Promise<void> {
  await tpm.unpersist(handle, 'owner').catch(ifAbsent);
}

function ifAbsent(error: unknown): undefined {
  if (!(error instanceof TpmError) || error.code !== 'tpm-no-object') throw error;
}

/** PEM of a key whose TPMT_PUBLIC is given in base64. */
export const pemOf = (area: string): string => publicKeyPem(Buffer.from(area, 'base64'));

/**
 * The storage root key as it was pinned at provisioning.
 * @throws Failure `tpm-swapped` when the TPM holds another key there, or none.
 */
export async function pinnedStorageRoot(tpm: Tpm, anchors: Anchors): Promise<TpmObject> {
  const { handle, name } = anchors.srk;
  // The Name is that of the very key that sessions will be salted to, not of one that was read beside it.
  const root = await tpm.at(handle).catch(ifAbsent);
  if (root === undefined || hexOf(root.name) !== name) {
    await root?.[Symbol.asyncDispose]();
    throw new Failure(
      'tpm-swapped',
      `This is not the TPM that the node was provisioned with: the storage root key at ${handleText(handle)} is ${root === undefined ? 'missing' : 'another'}.`,
      {
        kept: 'Nothing was unsealed.',
        remedy:
          'Put the node back to its own TPM (check tpm.tcti), or provision it anew in another state directory.',
      },
    );
  }
  return root;
}
