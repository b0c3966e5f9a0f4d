// `collect-forensics`: by the running node where there is one; else here, with the TPM opened for it. Never two at once.
import { accessSync, constants, copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CustodyLog } from '../custody/log.ts';
import { parseUploadUrl } from '../forensics/upload-target.ts';
import { abandonedOnSignal, removeAbandoned } from '../forensics/working-directory.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import { assuranceNow } from './assurance.ts';
import type { Config } from './config.ts';
import { askNode, isRunning } from './control.ts';
import { CustodyFollower } from './custody-anchor.ts';
import { type BundleMade, type BundleRequest, makeBundle } from './evidence.ts';
import { keepHouse } from './housekeeping.ts';
import { storedCertificate } from './incident.ts';
import { stoppedCollectors } from './live-state.ts';
import { NodeKeys } from './node-keys.ts';
import { type NodeRecord, readNodeRecord } from './node-record.ts';
import { type Preview, previewBundle } from './preview.ts';
import { goneSentence } from './retention.ts';
import { type StateLayout, stateLayout } from './state-layout.ts';

/** Makes the directory for copies, if need be. @throws Failure `output-unusable`, usage. */
export function requireOutput(directory: string): void {
  try {
    makeDirectory(directory);
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new Failure('output-unusable', `Nothing can be left in ${directory}: ${reasonOf(cause)}.`, {
      kept: 'Nothing was collected.',
      remedy: 'Give --output a directory that can be written to, or leave it out.',
      status: exitStatus.usage,
      cause,
    });
  }
}

/** One after the other: Node's own way to make several never ends where there can be none, as below /proc. */
function makeDirectory(directory: string): void {
  if (existsSync(directory)) return;
  makeDirectory(dirname(directory));
  mkdirSync(directory, { mode: 0o700 });
}

/**
 * Leaves copies of the two files in a directory of the caller's, written with the caller's rights.
 * @throws Failure `output-failed`: the bundle is made all the same.
 */
export function copyBundle(made: BundleMade, directory: string): BundleMade {
  const targets = [made.archive, made.sigstore].map((file) => ({
    file,
    target: join(directory, basename(file)),
  }));
  try {
    for (const { file, target } of targets) copyFileSync(file, target);
  } catch (cause) {
    for (const { target } of targets) rmSync(target, { force: true });
    throw new Failure(
      'output-failed',
      `The bundle is made, but not copied to ${directory}: ${reasonOf(cause)}.`,
      {
        kept: `It lies in the state directory: ${made.archive} and ${basename(made.sigstore)}.`,
        remedy: 'Copy both files from there.',
        cause,
      },
    );
  }
  const [archive, sigstore] = targets.map(({ target }) => target);
  return { ...made, archive: archive ?? made.archive, sigstore: sigstore ?? made.sigstore };
}

/** How long a process that works on the state directory, such as another collection, is waited for. */
const patienceMilliseconds = 120_000;

/** @throws Failure `unprovisioned`, `upload-url-invalid`, `state-busy`, and as `makeBundle`. */
export async function collectForensics(
  config: Config,
  request: BundleRequest,
  onProgress: (step: string) => void,
): Promise<BundleMade> {
  const layout = stateLayout(config.node.state_dir);
  const record = recordNow(config, layout);
  requireUsable(request);
  const lock = await nodeOrLock(layout, onProgress);
  if (lock === 'node') {
    return await askNode<BundleMade>(layout.control, 'collect', { ...request }, onProgress);
  }
  using _lock = lock;
  removeAbandoned(layout.bundles);
  using _begun = abandonedOnSignal(layout.bundles);
  using custody = CustodyLog.open(layout.custody);
  const troubles = await houseKept({ config, layout, record, custody });
  const opened = await openKeys(config, record, 'flush');
  const { keys, tpmTrouble } = opened;
  if (tpmTrouble !== undefined)
    onProgress(`The TPM is of no use, so the bundle is unsigned: ${reasonOf(tpmTrouble)}`);
  try {
    const follower = new CustodyFollower(
      layout,
      () => keys,
      ({ problem }) => onProgress(problem),
    );
    const anchor = (whole?: boolean) => follower.anchor(whole);
    const collectors = [...stoppedCollectors(layout), ...storedCertificate(layout)];
    const made = await makeBundle(
      { config, layout, record, custody, keys, tpmTrouble, anchor, collectors, onProgress },
      request,
    );
    return { ...made, problems: [...troubles, ...made.problems] };
  } finally {
    await keys?.[Symbol.asyncDispose]();
  }
}

/** What a running node would tell as alerts. A bundle that was given up and lies nowhere else must not go unseen. */
async function houseKept(node: Parameters<typeof keepHouse>[0]): Promise<string[]> {
  try {
    return (await keepHouse(node)).flatMap((gone) => (gone.copied ? [] : [`limits: ${goneSentence(gone)}`]));
  } catch (error) {
    return [`limits: Receipts and limits could not be looked after: ${reasonOf(error)}`];
  }
}

/** What `collectForensics` would do now; changes nothing. @throws Failure `unprovisioned`, `upload-url-invalid`. */
export async function previewForensics(
  config: Config,
  request: BundleRequest,
  onProgress: (step: string) => void,
): Promise<Preview> {
  const layout = stateLayout(config.node.state_dir);
  const record = recordNow(config, layout);
  requireUsable(request);
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

/** What the courier would find wrong much later, when nobody looks any more. */
function requireUsable({ upload = '' }: BundleRequest): void {
  if (upload !== '') parseUploadUrl(upload);
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
