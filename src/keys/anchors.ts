// The anchors of a node in its TPM: the storage root key (adopted where one is persisted), the attestation key under the
// endorsement hierarchy, the bundle signing key certified by it, and three NV indices: the bundle sequence counter, the armed
// counter that approvals name, and the custody head. Each is planned first and made after the plan is on the medium, so that
// what an interrupted run left in the TPM is known for ours, and what others left there is never taken for it.

import { Failure } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import type { Tpm } from '../tpm/context.ts';
import { type NvDefinition, ownerAndAuth } from '../tpm/nv-public.ts';
import type { TpmObject } from '../tpm/object.ts';
import { TpmError } from '../tpm/responses.ts';
import { parsePublic, publicKeyPem } from '../tpm/structures.ts';
import { attestationKey, signingKey, storageRootKey } from '../tpm/templates.ts';
import { counterDefinition } from './indices.ts';

const base64 = z.base64();

/** What the node keeps of its anchors. Binary members are base64, names hex. `adopted`: it was there before the node. */
export const anchorsSchema = z.object({
  srk: z.object({ handle: z.int(), name: z.string(), public: base64, adopted: z.boolean() }),
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
  /** TPMT_PUBLIC of what stands there, base64. */
  readonly public?: string;
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const base64Of = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
export const handleText = (handle: number): string => `0x${handle.toString(16).padStart(8, '0')}`;

/** @throws Failure `srk-unsuitable` where something else than a storage key stands there. */
export async function planStorageRoot(tpm: Tpm, handle: number): Promise<PersistentPlan> {
  if (!(await tpm.persistentHandles()).includes(handle)) return { handle, adopted: false };
  return { handle, adopted: true, public: base64Of((await readStorageKey(tpm, handle)).public) };
}

/**
 * Adopts the storage root key at the planned handle, or makes and persists one. Where another has come to stand there since a
 * plan to make one, that is adopted.
 * @throws Failure `srk-unsuitable` where something else than a storage key stands there.
 */
export async function storageRoot(tpm: Tpm, { handle, adopted }: PersistentPlan): Promise<Anchors['srk']> {
  if (!(await tpm.persistentHandles()).includes(handle)) {
    await using primary = await tpm.createPrimary('owner', storageRootKey);
    await tpm.persist(primary, 'owner', handle);
    return { handle, name: hexOf(primary.name), public: base64Of(primary.public), adopted };
  }
  const { name, public: area } = await readStorageKey(tpm, handle);
  const foreign = adopted || hexOf(name) !== (await plannedName(tpm, 'srk'));
  return { handle, name: hexOf(name), public: base64Of(area), adopted: foreign };
}

async function readStorageKey(tpm: Tpm, handle: number): Promise<{ public: Uint8Array; name: Uint8Array }> {
  const found = await tpm.readPublic(handle);
  if (isStorageKey(found.public)) return found;
  throw new Failure('srk-unsuitable', `What stands at ${handleText(handle)} is no storage key of this TPM.`, {
    kept: 'It was left as it is, and nothing was made under it.',
    remedy: 'Give the handle of the storage root key in tpm.srk_handle, or a free one, where it is made.',
  });
}

/** Asymmetric, so that sessions can be salted to it, and to be used with a password. */
function isStorageKey(area: Uint8Array): boolean {
  try {
    const { type, restricted, decrypt, fixedTPM, fixedParent, userWithAuth } = parsePublic(area);
    return type !== 'keyedhash' && restricted && decrypt && fixedTPM && fixedParent && userWithAuth;
  } catch (error) {
    if (error instanceof Failure) return false;
    throw error;
  }
}

/** Whether a lockout of the TPM stops the use of a key, and a power cut while it was in use counts as a wrong try. */
export const countsWrongTries = (area: string): boolean => !parsePublic(Buffer.from(area, 'base64')).noDA;

/** The Name of the key that this program makes: it follows from the TPM's seed and the template, before it was ever persisted. */
export async function plannedName(tpm: Tpm, anchor: 'srk' | 'ak'): Promise<string> {
  await using primary = await (anchor === 'srk'
    ? tpm.createPrimary('owner', storageRootKey)
    : tpm.createPrimary('endorsement', attestationKey));
  return hexOf(primary.name);
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

/** Evicts the object of this Name; one that is gone already, or is another's by now, is no failure. */
export async function releaseObject(tpm: Tpm, handle: number, name: string): Promise<void> {
  if ((await nameAt(tpm, handle)) === name) await tpm.unpersist(handle, 'owner');
}

/** Gives an index back; one that is gone already is no failure. */
export async function releaseIndex(tpm: Tpm, index: number): Promise<void> {
  await tpm.nvUndefine(index).catch(ifAbsent);
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
  const present = root && hexOf(root.name);
  if (root !== undefined && present === name) return root;
  await root?.[Symbol.asyncDispose]();
  throw swapped(handle, present);
}

/**
 * As `pinnedStorageRoot`, for whoever takes the anchors away: the key may be gone already, with this program or with a TPM that was
 * cleared. Then the attestation key, which follows from the endorsement seed, tells the TPM.
 */
export async function requireSameTpm(tpm: Tpm, { srk, ak }: Anchors): Promise<void> {
  const present = await nameAt(tpm, srk.handle);
  const same = present === undefined ? (await plannedName(tpm, 'ak')) === ak.name : present === srk.name;
  if (!same) throw swapped(srk.handle, present);
}

/** Of what is persisted there; undefined where nothing is. */
async function nameAt(tpm: Tpm, handle: number): Promise<string | undefined> {
  const stands = (await tpm.persistentHandles()).includes(handle);
  return stands ? hexOf((await tpm.readPublic(handle)).name) : undefined;
}

function swapped(handle: number, present: string | undefined): Failure {
  const how = present === undefined ? 'missing' : 'another';
  return new Failure(
    'tpm-swapped',
    `This is not the TPM that the node was provisioned with: the storage root key at ${handleText(handle)} is ${how}.`,
    {
      kept: 'Nothing was unsealed.',
      remedy:
        'Put the node back to its own TPM (check tpm.tcti). Where this TPM was cleared, nothing opens the keys any more: `esoteric-appliance deprovision`, then provision anew.',
    },
  );
}
