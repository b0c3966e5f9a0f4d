// `deprovision`: gives the TPM back as it was found and takes the node's keys away. The custody log, the bundles and what is
// still to be delivered stay: they are evidence. Safe to repeat, and finishes a provisioning that was broken off as well.
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { CustodyLog } from '../custody/log.ts';
import { readIfPresent } from '../host/durable.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import {
  counterDefinition,
  custodyDefinition,
  pinnedStorageRoot,
  releaseClaim,
  releaseHandle,
  releaseIndex,
} from '../keys/anchors.ts';
import { unprovisioned } from '../keys/lifecycle.ts';
import { sealedKeysIn } from '../keys/sealed.ts';
import { shareDefinition } from '../keys/share.ts';
import { openTpm, type Tpm } from '../tpm/context.ts';
import type { Config } from './config.ts';
import { type NodeRecord, readNodeRecord, type StateLayout, stateLayout } from './node-record.ts';
import { type OwnedObject, ownedBy } from './ownership.ts';
import { Progress } from './progress.ts';

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
  const objects = record === undefined ? [] : ownedBy(record);
  const stays = ({ what, adopted }: OwnedObject): boolean =>
    adopted || (what === 'srk' && options.keepStorageRoot);
  const result = {
    node: record?.node ?? config.node.name,
    removed: objects.filter((object) => !stays(object)),
    kept: objects.filter(stays),
    lockoutRestored: record?.tpm?.lockoutBefore != null,
  };
  if (!options.confirmed) throw unconfirmed(result);
  using _lock = holdLock(layout.lock, `The state directory ${layout.directory}`);
  using custody = CustodyLog.open(layout.custody);
  if (config.tpm.mode === 'tpm' && record?.tpm !== null) {
    await using tpm = await openTpm({ tcti: config.tpm.tcti });
    await tpm.flushAbandoned();
    if (record !== undefined) await giveBack(tpm, layout, record, result.removed);
    await giveBackUnfinished(tpm, layout, options.keepStorageRoot);
  }
  custody.append('deprovisioned', {
    removed: result.removed.map(({ handle, what }) => `${what} at ${handle}`),
  });
  // The record goes last: until then the command can be repeated.
  for (const path of [
    join(layout.directory, 'keys'),
    layout.approvals,
    layout.approvalRequest,
    layout.development,
    layout.enrolment,
    join(layout.directory, 'running.json'),
    join(layout.directory, 'state.json'),
    layout.provisioning,
    layout.node,
  ]) {
    rmSync(path, { recursive: true, force: true });
  }
  return result;
}

async function giveBack(
  tpm: Tpm,
  layout: StateLayout,
  record: NodeRecord,
  removed: readonly OwnedObject[],
): Promise<void> {
  if (record.tpm === null) return;
  const { handle } = record.tpm.srk;
  // Gone where this command was broken off; another key there is another TPM.
  if ((await tpm.persistentHandles()).includes(handle)) {
    await using _srk = await pinnedStorageRoot(tpm, record.tpm);
  }
  for (const { shareIndex } of sealedKeysIn(layout.directory)) await releaseIndex(tpm, shareIndex);
  for (const { kind, handle: text } of removed.toReversed()) {
    const at = Number(text);
    if (kind === 'NV index') await releaseIndex(tpm, at);
    else await releaseHandle(tpm, at);
  }
  const { lockoutBefore: before } = record.tpm;
  if (before === null || (await tpm.properties()).authorizationSet.lockout) return;
  const { max, interval, recovery } = before;
  await tpm.setLockoutParameters({
    maxTries: max,
    recoverySeconds: interval,
    lockoutRecoverySeconds: recovery,
  });
}

/** What a provisioning that was broken off had planned, as far as it stands there as planned. */
async function giveBackUnfinished(tpm: Tpm, layout: StateLayout, keepStorageRoot: boolean): Promise<void> {
  for (const [step, plan] of new Progress(layout.provisioning).plans()) {
    if (typeof plan === 'number') {
      const definitions = /counter$/.test(step)
        ? [counterDefinition]
        : step === 'custody-head'
          ? [custodyDefinition]
          : [shareDefinition(32), shareDefinition(48)];
      for (const definition of definitions) await releaseClaim(tpm, plan, definition);
    } else if (isPersistent(plan) && !plan.adopted && !(step === 'srk' && keepStorageRoot)) {
      await releaseHandle(tpm, plan.handle);
    }
  }
}

const isPersistent = (plan: unknown): plan is { handle: number; adopted: boolean } =>
  typeof plan === 'object' && plan !== null && 'handle' in plan && 'adopted' in plan;

function unconfirmed({ node, removed }: Deprovisioned): Failure {
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
