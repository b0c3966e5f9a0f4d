// Sealing the keys of a node that are not sealed yet, each with a share at an NV index of its own.
import { SecretArena } from '../host/arena.ts';
import { hardenProcess } from '../host/hardening.ts';
import { freeIndex } from '../keys/anchors.ts';
import { createSealedKey, keyLength, readSealedKey, reclaimShare } from '../keys/sealed.ts';
import type { Tpm } from '../tpm/context.ts';
import type { Make } from './anchoring.ts';
import type { Config } from './config.ts';
import type { NodeRecord, StateLayout } from './node-record.ts';
import { overtaken, type Progress } from './progress.ts';

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

/** Shares of a --recover that was broken off before their keys were sealed anew, and that nobody wants any more. */
export async function giveBackResealing(
  tpm: Tpm,
  layout: StateLayout,
  { keys }: NodeRecord,
  progress: Progress,
): Promise<void> {
  for (const { name, purpose } of keys) {
    const index = progress.plan(`reshare-${name}`);
    if (typeof index === 'number') await reclaimShare(tpm, layout.directory, index, keyLength[purpose]);
  }
}
