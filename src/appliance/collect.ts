// `collect-forensics`: by the running node where there is one; else here, with the TPM opened for it.
import { CustodyLog } from '../custody/log.ts';
import { reasonOf } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import type { Config } from './config.ts';
import { askNode, isRunning } from './control.ts';
import { type BundleMade, type BundleRequest, makeBundle } from './evidence.ts';
import { NodeKeys } from './node-keys.ts';
import { readNodeRecord, stateLayout } from './node-record.ts';

/** @throws Failure `unprovisioned`, `canary-survived`, `pack-failed`, `disk-full`. */
export async function collectForensics(
  config: Config,
  request: BundleRequest,
  onProgress: (step: string) => void,
): Promise<BundleMade> {
  const layout = stateLayout(config.node.state_dir);
  if (await isRunning(layout.control)) {
    return await askNode<BundleMade>(layout.control, 'collect', { ...request }, onProgress);
  }
  const record = readNodeRecord(layout);
  using _lock = holdLock(layout.lock, `The state directory ${layout.directory}`);
  using custody = CustodyLog.open(layout.custody);
  const keys =
    record.tpm === null
      ? null
      : await NodeKeys.open(config, record.tpm).catch((error: unknown) => {
          onProgress(`The TPM is not there, so the bundle is unsigned: ${reasonOf(error)}`);
          return null;
        });
  try {
    return await makeBundle({ config, layout, record, custody, keys, collectors: [], onProgress }, request);
  } finally {
    await keys?.[Symbol.asyncDispose]();
  }
}
