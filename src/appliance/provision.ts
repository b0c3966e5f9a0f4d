// Provisioning: anchors in the TPM, sealed keys, an approval of this machine's state, the enrolment record. Each step is found
// done or is done, and what it made is on the medium before the next one starts, so the same command completes after a kill
// at any instant.
import { existsSync } from 'node:fs';
import { CustodyLog } from '../custody/log.ts';
import { readIfPresent } from '../host/durable.ts';
import { zeroizedFailure } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import { findUser } from '../host/privileges.ts';
import { loadInterlockPolicy } from '../interlock/policy.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import { TpmError } from '../tpm/responses.ts';
import { Announcer } from './announce.ts';
import { type Installed, readBrought } from './approvals.ts';
import { requireSameKind } from './assurance.ts';
import type { Config } from './config.ts';
import { askNode, isRunning } from './control.ts';
import { anchorOnce } from './custody-anchor.ts';
import { dryRun } from './dry-run.ts';
import { finishInterrupted, requireFinished } from './interrupted.ts';
import { makeUpForKilled, tellFinished } from './killed-zeroize.ts';
import { readNodeRecord } from './node-record.ts';
import { readCertificates } from './pins.ts';
import { policyPath, profilePath } from './policies.ts';
import { loadProfile, type Profile, wantedKeys } from './profile.ts';
import type { ProvisionResult } from './provision-result.ts';
import { ProvisioningRun, type ProvisionOptions } from './provisioning-run.ts';
import { makeStateDirectories, type StateLayout, stateLayout } from './state-layout.ts';

/**
 * @throws Failure `zeroized` on a zeroized node without `rearm`; `state-in-use` while the node runs; `approval-needed` where
 * it cannot be re-armed without one; `zeroize-unfinished`; `tpm-still-capped`, `tpm-swapped`, `authorities-changed`, `ek-ca-missing`,
 * `ek-ca-invalid`, those of `anchorNode`.
 */
export async function provision(config: Config, options: ProvisionOptions = {}): Promise<ProvisionResult> {
  const layout = stateLayout(config.node.state_dir);
  const profile = profileOf(config, options.profile);
  const { mode, ek_ca: ekCa } = config.tpm;
  if (mode !== 'none' && ekCa !== '') readCertificates(ekCa); // A mistake in there shows before anything is made.
  const lifecycle = new Lifecycle(layout.directory);
  if (options.dryRun === true) {
    requireUnzeroizedOr(options.rearm, lifecycle);
    return await dryRun(config, layout, wantedKeys(config, profile));
  }
  const { user } = config.courier;
  makeStateDirectories(layout, user === '' ? undefined : findUser(user));
  using _lock = holdLock(layout.lock, `The state directory ${layout.directory}`);
  using custody = CustodyLog.open(layout.custody);
  await finishLast(config, layout, custody, options.log ?? (() => {}));
  const zeroized = requireUnzeroizedOr(options.rearm, lifecycle);
  requireFinished(layout);
  const result = await new ProvisioningRun(config, layout, profile, custody, options, zeroized)
    .complete()
    .catch(resumable);
  const { state } = lifecycle.read();
  if (state !== 'sealed' || result.changed.length > 0) {
    const { assurance, changed } = result;
    custody.append(zeroized ? 're-armed' : 'provisioned', { assurance, changed });
  }
  await anchorOnce(config, layout, readNodeRecord(layout));
  if (state !== 'sealed') {
    lifecycle.clearRunning();
    lifecycle.markSealed();
  }
  return result;
}

/** @returns whether it is zeroized, which it may be where it is to be armed anew. */
function requireUnzeroizedOr(rearm: boolean | undefined, lifecycle: Lifecycle): boolean {
  const zeroized = lifecycle.read().state === 'zeroized';
  if (zeroized && rearm !== true) throw zeroizedFailure('Provisioning');
  return zeroized;
}

/**
 * A zeroize of which a stage is left over is finished first: no approval that it voids may open anything. Where the process that had
 * begun it was killed, it is told of and certified as well, while the TPM may still hold the cap.
 */
async function finishLast(
  config: Config,
  layout: StateLayout,
  custody: CustodyLog,
  log: (line: string) => void,
): Promise<void> {
  if (readIfPresent(layout.node) === undefined) return;
  const record = readNodeRecord(layout);
  requireSameKind(config, record);
  const policy = loadInterlockPolicy(policyPath('interlock.toml'));
  const finished = await finishInterrupted({ config, layout, record, policy });
  // Standard output is the command's.
  const journal = { ...config.journal, events_stdout: 'off' as const };
  using announcer = new Announcer({ ...config, journal }, layout, log);
  const node = { config, layout, record, custody, announcer };
  if (finished !== undefined) tellFinished(node, finished);
  await makeUpForKilled(node, finished);
}

/** An approval for the node that runs: nothing but that is done. Undefined where none runs. */
export async function approveRunning(config: Config, path: string): Promise<Installed | undefined> {
  const { control } = stateLayout(config.node.state_dir);
  if (!(await isRunning(control))) return undefined;
  return await askNode<Installed>(control, 'approve', { approval: readBrought(path) });
}

/** The profile that is named, else that of the node's role; a role without one has the keys of its configuration alone. */
function profileOf(config: Config, path: string | undefined): Profile | undefined {
  const chosen = path ?? profilePath(config.node.role);
  return path === undefined && !existsSync(chosen) ? undefined : loadProfile(chosen);
}

/** The TPM, or the way to it, gave out in the midst of it. */
function resumable(error: unknown): never {
  if (!(error instanceof TpmError) || error.kept !== undefined) throw error;
  const { code, message, rc, layer, remedy } = error;
  throw new TpmError(code, message, rc, layer, {
    kept: 'What was made so far is on record: the same command completes it, and `deprovision` gives it back.',
    ...(remedy === undefined ? {} : { remedy }),
    cause: error,
  });
}
