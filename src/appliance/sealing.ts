// Sealing the keys of a node that are not sealed yet, each with a share at an NV index of its own.
import { SecretArena } from '../host/arena.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { hardenProcess } from '../host/hardening.ts';
import { freeIndex } from '../keys/anchors.ts';
import { createSealedKey, keyLength, readSealedKey, reclaimShare } from '../keys/sealed.ts';
import type { Tpm } from '../tpm/context.ts';
import type { Make } from './anchoring.ts';
import type { Config } from './config.ts';
import type { NodeRecord } from './node-record.ts';
import { overtaken, type Progress } from './progress.ts';
import type { StateLayout } from './state-layout.ts';

/** Room for one key at a time, with its share and what is made of both. */
const arenaBytes = 16_384;

/** Returns where the shares of all keys are. */
export async function sealMissingKeys(
  tpm: Tpm,
  settings: Config['tpm'],
  layout: StateLayout,
  record: NodeRecord,
  anchors: NonNullable<NodeRecord['tpm']>,
  progress: Progress,
  made: Make,
): Promise<Record<string, number>> {
  const shares = { ...anchors.shares };
  const missing = record.keys.filter(({ name }) => {
    const sealed = readSealedKey(layout.directory, name);
    if (sealed !== undefined) shares[name] = sealed.shareIndex;
    return sealed === undefined;
  });
  if (missing.length === 0) return shares;
  hardenProcess();
  using arena = SecretArena.allocate({ byteLength: arenaBytes });
  await using srk = await tpm.at(anchors.srk.handle);
  for (const { name, purpose } of missing) {
    const reclaim = (index: number) => reclaimShare(tpm, layout.directory, index, keyLength[purpose]);
    const abandoned = shares[name]; // Its blob was destroyed, and the TPM may not have answered then.
    if (abandoned !== undefined) await reclaim(abandoned);
    shares[name] = await progress.step(
      `share-${name}`,
      () => freeIndex(tpm, settings.nv_base),
      (shareIndex, resumed) =>
        made(`key:${name}`, async () => {
          if (resumed && !(await reclaim(shareIndex))) return overtaken;
          const identity = { node: record.node, name, purpose };
          const { authorities } = anchors;
          await createSealedKey({ tpm, srk, arena }, layout.directory, { identity, authorities, shareIndex });
          return shareIndex;
        }),
    );
  }
  return shares;
}

/**
 * Seals a fresh key in the place of each that is named: its file is replaced in one step, then the share of the former key is given
 * back, and what copies of its blob still open to is noise. Repeated after a kill, it goes on, and makes no key twice.
 * Returns where the shares of all keys are. @throws Failure `key-missing`, usage.
 */
export async function rotateKeys(
  tpm: Tpm,
  settings: Config['tpm'],
  layout: StateLayout,
  record: NodeRecord,
  anchors: NonNullable<NodeRecord['tpm']>,
  names: readonly string[],
  progress: Progress,
  made: Make,
): Promise<Record<string, number>> {
  const shares = { ...anchors.shares };
  const chosen = names.map((name) => linkKeyNamed(name, record));
  hardenProcess();
  using arena = SecretArena.allocate({ byteLength: arenaBytes });
  await using srk = await tpm.at(anchors.srk.handle);
  const { authorities } = anchors;
  for (const { name, purpose } of chosen) {
    const reclaim = (index: number) => reclaimShare(tpm, layout.directory, index, keyLength[purpose]);
    const index = await progress.step(
      `rotate-${name}`,
      () => freeIndex(tpm, settings.nv_base),
      (shareIndex, resumed) =>
        made(`key:${name}`, async () => {
          if (resumed && readSealedKey(layout.directory, name)?.shareIndex === shareIndex) return shareIndex;
          if (resumed && !(await reclaim(shareIndex))) return overtaken;
          const identity = { node: record.node, name, purpose };
          await createSealedKey({ tpm, srk, arena }, layout.directory, { identity, authorities, shareIndex });
          return shareIndex;
        }),
    );
    const former = shares[name];
    if (former !== undefined && former !== index) await reclaim(former);
    shares[name] = index;
  }
  return shares;
}

function linkKeyNamed(name: string, { keys }: NodeRecord): NodeRecord['keys'][number] {
  const rotating = keys.filter(({ purpose }) => purpose !== 'seed');
  const found = rotating.find((key) => key.name === name);
  if (found !== undefined) return found;
  throw new Failure('key-missing', `This node has no key of a link that is called "${name}".`, {
    kept: 'Nothing was changed.',
    remedy: `Name one of: ${rotating.map((key) => key.name).join(', ')}.`,
    status: exitStatus.usage,
  });
}

/**
 * Shares that nobody wants any more: of a --recover or a --rotate that was broken off before their keys were sealed anew, or before
 * the former ones were given back. The rotation of a key in `goingOn` is not given up: it goes on.
 */
export async function giveBackResealing(
  tpm: Tpm,
  layout: StateLayout,
  { keys, tpm: anchors }: NodeRecord,
  progress: Progress,
  goingOn: readonly string[],
): Promise<void> {
  for (const { name, purpose } of keys) {
    const rotation = goingOn.includes(name) ? undefined : progress.plan(`rotate-${name}`);
    const former = rotation === undefined ? undefined : anchors?.shares[name];
    for (const index of [progress.plan(`reshare-${name}`), rotation, former])
      if (typeof index === 'number') await reclaimShare(tpm, layout.directory, index, keyLength[purpose]);
  }
}
