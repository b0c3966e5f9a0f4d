// `deprovision`: gives the TPM back as it was found and takes the node's keys away. The custody log, the bundles and what is
// still to be delivered stay: they are evidence. Safe to repeat, and finishes a provisioning that was broken off as well.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CustodyLog } from '../custody/log.ts';
import { readIfPresent } from '../host/durable.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import { plannedName, releaseClaim, releaseObject, requireSameTpm } from '../keys/anchors.ts';
import { unprovisioned } from '../keys/lifecycle.ts';
import { sealedKeysIn } from '../keys/sealed.ts';
import { openTpm } from '../tpm/context.ts';
import { requireUsable } from './anchoring.ts';
import type { Config } from './config.ts';
import { type LockoutBefore, lockoutSchema, type NodeRecord, readNodeRecord } from './node-record.ts';
import { indexDefinitions, type OwnedObject, ownedBy, plannedBy, shareOf } from './ownership.ts';
import { Progress } from './progress.ts';
import { type StateLayout, stateLayout } from './state-layout.ts';

export interface DeprovisionOptions {
  /** Without it nothing is done: what would go is told. */
  readonly confirmed: boolean;
  /** Leave the storage root key although this node made it: others may have come to use it. */
  readonly keepStorageRoot: boolean;
}

export interface Deprovisioned {
  readonly node: string;
  /** What was, or would be, removed from the TPM. */
  readonly removed: readonly OwnedObject[];
  readonly kept: readonly OwnedObject[];
  readonly lockoutRestored: boolean;
}

/** @throws Failure `unprovisioned`, `state-in-use`, `tpm-swapped`, `tpm-unreachable`, `not-confirmed` (status 2). */
export async function deprovision(config: Config, options: DeprovisionOptions): Promise<Deprovisioned> {
  const layout = stateLayout(config.node.state_dir);
  const record = readIfPresent(layout.node) === undefined ? undefined : readNodeRecord(layout);
  if (record === undefined && !existsSync(layout.provisioning)) throw unprovisioned(layout.directory);
  const objects = objectsOf(layout, record);
  const stays = ({ what, adopted }: OwnedObject): boolean =>
    adopted || (what === 'srk' && options.keepStorageRoot);
  const plan = {
    node: record?.node ?? config.node.name,
    removed: objects.filter((object) => !stays(object)),
    kept: objects.filter(stays),
  };
  if (!options.confirmed) throw unconfirmed(plan);
  using _lock = holdLock(layout.lock, `The state directory ${layout.directory}`);
  using custody = CustodyLog.open(layout.custody);
  const lockoutRestored = await giveBack(config, layout, record, plan.removed);
  custody.append('deprovisioned', {
    removed: plan.removed.map(({ handle, what }) => `${what} at ${handle}`),
    lockoutRestored,
  });
  // The record goes last: until then the command can be repeated.
  for (const path of [
    join(layout.directory, 'keys'),
    layout.approvals,
    layout.approvalRequest,
    layout.seed,
    layout.zeroizeCertificate,
    layout.pastCertificates,
    layout.collectedByTimer,
    layout.development,
    ...signInOf(layout),
    layout.enrolment,
    join(layout.directory, 'running.json'),
    join(layout.directory, 'state.json'),
    layout.provisioning,
    layout.node,
  ]) {
    rmSync(path, { recursive: true, force: true });
  }
  return { ...plan, lockoutRestored };
}

/** And what its writers left when they were killed, which holds the same. The directory is the courier's: anything may lie there. */
function signInOf({ identity }: StateLayout): string[] {
  const directory = dirname(identity);
  if (!existsSync(directory)) return [];
  const names = readdirSync(directory).filter((name) => name.startsWith(basename(identity)));
  return names.map((name) => join(directory, name));
}

/** What the record tells, the sealed keys, and the plans of a run that was broken off; each handle once. */
function objectsOf(layout: StateLayout, record: NodeRecord | undefined): OwnedObject[] {
  if (record?.tpm === null) return [];
  const shares = sealedKeysIn(layout.directory).map(({ name, shareIndex }) => shareOf(name, shareIndex));
  const known = [...(record === undefined ? [] : ownedBy(record)), ...shares];
  const all = [...known, ...plannedBy(new Progress(layout.provisioning))];
  return all.filter(({ handle }, at) => all.findIndex((object) => object.handle === handle) === at);
}

/** Returns whether the lockout parameters were put back. What has come to be another's at our handles is left alone. */
async function giveBack(
  config: Config,
  layout: StateLayout,
  record: NodeRecord | undefined,
  removed: readonly OwnedObject[],
): Promise<boolean> {
  const anchors = record?.tpm;
  if (config.tpm.mode === 'none' || anchors === null) return false;
  await using tpm = await openTpm({ tcti: config.tpm.tcti });
  await tpm.flushAbandoned();
  requireUsable(await tpm.properties(), ['owner']);
  if (anchors !== undefined) await requireSameTpm(tpm, anchors);
  for (const { kind, what, handle } of removed.toReversed()) {
    const at = Number(handle);
    if (kind === 'NV index') {
      for (const definition of indexDefinitions(what)) await releaseClaim(tpm, at, definition);
    } else if (what === 'srk' || what === 'ak') {
      await releaseObject(tpm, at, anchors?.[what].name ?? (await plannedName(tpm, what)));
    }
  }
  const before =
    anchors === undefined ? lockoutPlanned(new Progress(layout.provisioning)) : anchors.lockoutBefore;
  if (before === null || (await tpm.properties()).authorizationSet.lockout) return false;
  const { max, interval, recovery } = before;
  await tpm.setLockoutParameters({
    maxTries: max,
    recoverySeconds: interval,
    lockoutRecoverySeconds: recovery,
  });
  return true;
}

/** What the lockout parameters were, where a run that was broken off had meant to change them. */
function lockoutPlanned(progress: Progress): LockoutBefore {
  return lockoutSchema.safeParse(progress.plan('lockout')).data ?? null;
}

function unconfirmed({ node, removed }: Pick<Deprovisioned, 'node' | 'removed'>): Failure {
  const list = removed.map(({ what, handle }) => `${what} at ${handle}`).join(', ');
  return new Failure(
    'not-confirmed',
    `Deprovisioning ${node} destroys its sealed keys for good, and removes from the TPM: ${list || 'nothing'}.`,
    {
      kept: 'Nothing was removed.',
      remedy: 'Repeat the command with --yes. The custody log and the bundles stay in any case.',
      status: exitStatus.usage,
    },
  );
}
