// `provision --dry-run`: every TPM object and NV index that a run would create, with its attributes, and nothing made.
import { readIfPresent } from '../host/durable.ts';
import { handleText, pinnedStorageRoot, planAttestationKey, planStorageRoot } from '../keys/anchors.ts';
import { readSealedKey } from '../keys/sealed.ts';
import { openTpm } from '../tpm/context.ts';
import { lockoutBefore, requireUsable } from './anchoring.ts';
import { assuranceOf, requireSameKind } from './assurance.ts';
import type { Config } from './config.ts';
import { type NodeRecord, readNodeRecord } from './node-record.ts';
import { ownedObjects, sealedBlob, signingKeyBlob } from './ownership.ts';
import type { ProvisionResult } from './provision-result.ts';
import type { StateLayout } from './state-layout.ts';

/**
 * `owns` is what would stand; `changed` what would be made of it.
 * @throws Failure as the run itself would before it makes anything: `provisioned-otherwise`, `tpm-swapped`, those of `requireUsable`.
 */
export async function dryRun(
  config: Config,
  layout: StateLayout,
  wanted: NodeRecord['keys'],
): Promise<ProvisionResult> {
  const known = readIfPresent(layout.node) === undefined ? undefined : readNodeRecord(layout);
  if (known !== undefined) requireSameKind(config, known);
  const keys = wanted.map((key) => {
    const sealed = readSealedKey(layout.directory, key.name);
    return { ...key, publicKey: sealed?.publicKey ?? null, sealed: sealed !== undefined };
  });
  const common = { node: config.node.name, tpm: null, keys, enrolment: layout.enrolment };
  if (config.tpm.mode === 'none') {
    const assurance = assuranceOf(config, undefined, []);
    return {
      ...common,
      assurance,
      approval: null,
      owns: [],
      changed: known === undefined ? ['node', 'enrolment'] : [],
    };
  }
  await using tpm = await openTpm({ tcti: config.tpm.tcti });
  const properties = await tpm.properties();
  const held = known?.tpm ?? undefined;
  requireUsable(properties, held && ['owner']);
  await using _srk = held && (await pinnedStorageRoot(tpm, held));
  const missing = keys.filter(({ sealed }) => !sealed).map(({ name }) => name);
  const free = freeFrom(await tpm.nvIndices(), config.tpm.nv_base);
  const anchors = held ?? {
    srk: await planStorageRoot(tpm, config.tpm.srk_handle),
    ak: await planAttestationKey(tpm, config.tpm.ak_handle),
    sequenceIndex: free(),
    armedIndex: free(),
    custodyIndex: free(),
    shares: {},
  };
  const shares = { ...anchors.shares, ...Object.fromEntries(missing.map((name) => [name, free()])) };
  const owns = ownedObjects({ ...anchors, shares });
  const anew = owns.filter(({ what, adopted }) => !adopted && !what.startsWith('share:'));
  const lockout = known === undefined && lockoutBefore(properties, config.tpm) !== null;
  const anchored = [
    ...anew.map(({ what, handle }) => `${what} at ${handle}`),
    'signing-key',
    ...(lockout ? ['lockout'] : []),
    'node',
    'enrolment',
  ];
  const sealed = missing.map((name) => `key:${name} (its share at ${handleText(shares[name] ?? 0)})`);
  const approval = known === undefined || missing.length > 0 ? ['approval'] : [];
  return {
    ...common,
    assurance: assuranceOf(config, properties.simulator, []),
    approval: null,
    owns,
    changed: [...(known === undefined ? anchored : []), ...sealed, ...approval],
    planned: {
      blobs: [...(known === undefined ? [signingKeyBlob()] : []), ...missing.map(sealedBlob)],
      lockout: lockout
        ? { maxTries: config.tpm.lockout_tries, recoverySeconds: config.tpm.lockout_seconds }
        : null,
    },
  };
}

/** Hands out indices from `base` on that nobody has defined, each once. */
function freeFrom(taken: readonly number[], base: number): () => number {
  let next = base;
  return () => {
    while (taken.includes(next)) next += 1;
    return next++;
  };
}
