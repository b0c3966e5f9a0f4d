// `collect-forensics`: by the running node where there is one; else here, with the TPM opened for it. Never two at once.
import { copyFileSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CustodyLog } from '../custody/log.ts';
import { removeAbandoned } from '../forensics/working-directory.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import { assuranceNow } from './assurance.ts';
import type { Config } from './config.ts';
import { askNode, isRunning } from './control.ts';
import { anchorCustody } from './custody-anchor.ts';
import { type BundleMade, type BundleRequest, makeBundle } from './evidence.ts';
import { keepHouse } from './housekeeping.ts';
import { storedCertificate } from './incident.ts';
import { stoppedCollectors } from './live-state.ts';
import { NodeKeys } from './node-keys.ts';
import { type NodeRecord, readNodeRecord, type StateLayout, stateLayout } from './node-record.ts';
import { type Preview, previewBundle } from './preview.ts';

/** Leaves copies of the two files in a directory of the caller's, written with the caller's rights. */
export function copyBundle(made: BundleMade, directory: string): BundleMade {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const copy = (file: string): string => {
    const target = join(directory, basename(file));
    copyFileSync(file, target);
    return target;
  };
  return { ...made, archive: copy(made.archive), sigstore: copy(made.sigstore) };
}

/** How long a process that works on the state directory, such as another collection, is waited for. */
const patienceMilliseconds = 120_000;

/** @throws Failure `unprovisioned`, `state-busy`, and as `makeBundle`. */
export async function collectForensics(
  config: Config,
  request: BundleRequest,
  onProgress: (step: string) => void,
): Promise<BundleMade> {
  const layout = stateLayout(config.node.state_dir);
  const record = recordNow(config, layout);
  const lock = await nodeOrLock(layout, onProgress);
  if (lock === 'node') {
    return await askNode<BundleMade>(layout.control, 'collect', { ...request }, onProgress);
  }
  using _lock = lock;
  removeAbandoned(layout.bundles);
  using custody = CustodyLog.open(layout.custody);
  try {
    keepHouse({ config, layout, record, custody });
  } catch (error) {
    onProgress(`Receipts and limits could not be looked after: ${reasonOf(error)}`);
  }
  const opened = await openKeys(config, record, 'flush');
  const { keys, tpmTrouble } = opened;
  if (tpmTrouble !== undefined)
    onProgress(`The TPM is of no use, so the bundle is unsigned: ${reasonOf(tpmTrouble)}`);
  try {
    const anchor = () => anchorCustody(keys, layout, ({ message }) => onProgress(message));
    const collectors = [...stoppedCollectors(layout), ...storedCertificate(layout)];
    return await makeBundle(
      { config, layout, record, custody, keys, tpmTrouble, anchor, collectors, onProgress },
      request,
    );
  } finally {
    await keys?.[Symbol.asyncDispose]();
  }
}

/** What `collectForensics` would do now; changes nothing. @throws Failure `unprovisioned`. */
export async function previewForensics(
  config: Config,
  request: BundleRequest,
  onProgress: (step: string) => void,
): Promise<Preview> {
  const layout = stateLayout(config.node.state_dir);
  const record = recordNow(config, layout);
  if (await isRunning(layout.control)) {
    return await askNode<Preview>(layout.control, 'collect-preview', { ...request }, onProgress);
  }
  const { keys } = await openKeys(config, record, 'leave');
  try {
    const collectors = [...stoppedCollectors(layout), ...storedCertificate(layout)];
    return await previewBundle({ config, layout, record, keys, collectors }, request, onProgress);
  } finally {
    await keys?.[Symbol.asyncDispose]();
  }
}

function recordNow(config: Config, layout: StateLayout): NodeRecord {
  const known = readNodeRecord(layout);
  return { ...known, assurance: assuranceNow(config, known) };
}

/** The state's lock, or the node that holds it. Who else holds it is waited for: it may be another collection. */
async function nodeOrLock(
  layout: StateLayout,
  onProgress: (step: string) => void,
): Promise<Disposable | 'node'> {
  for (const deadline = Date.now() + patienceMilliseconds; ; await delay(200)) {
    if (await isRunning(layout.control)) return 'node';
    try {
      return holdLock(layout.lock, `The state directory ${layout.directory}`);
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'state-in-use') throw error;
      if (Date.now() > deadline) throw stillBusy(error);
      onProgress(`waiting: ${error.message}`);
    }
  }
}

const stillBusy = (cause: Failure): Failure =>
  new Failure('state-busy', `${cause.message} It was waited for, for ${patienceMilliseconds / 1000} s.`, {
    kept: 'Nothing was touched.',
    remedy: 'Look at what that process does: a bundle, a provisioning. Repeat the command when it has ended.',
    cause,
  });

/** None without a TPM, or where it is of no use. */
async function openKeys(
  config: Config,
  record: NodeRecord,
  abandoned: 'flush' | 'leave',
): Promise<{ readonly keys: NodeKeys | null; readonly tpmTrouble?: unknown }> {
  if (record.tpm === null || config.tpm.mode === 'none') return { keys: null };
  try {
    return { keys: await NodeKeys.open(config, record.tpm, abandoned) };
  } catch (tpmTrouble) {
    return { keys: null, tpmTrouble };
  }
}
