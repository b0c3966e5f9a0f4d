// `collect-forensics`: by the running node where there is one; else here, with the TPM opened for it.
import { copyFileSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { CustodyLog } from '../custody/log.ts';
import { removeAbandoned } from '../forensics/working-directory.ts';
import { reasonOf } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import { assuranceNow } from './assurance.ts';
import type { Config } from './config.ts';
import { askNode, isRunning } from './control.ts';
import { anchorCustody } from './custody-anchor.ts';
import { type BundleMade, type BundleRequest, makeBundle } from './evidence.ts';
import { keepHouse } from './housekeeping.ts';
import { NodeKeys } from './node-keys.ts';
import { readNodeRecord, stateLayout } from './node-record.ts';

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
  const known = readNodeRecord(layout);
  const record = { ...known, assurance: assuranceNow(config, known) };
  using _lock = holdLock(layout.lock, `The state directory ${layout.directory}`);
  removeAbandoned(layout.bundles);
  using custody = CustodyLog.open(layout.custody);
  keepHouse({ config, layout, record, custody });
  let tpmTrouble: unknown;
  const keys =
    record.tpm === null || config.tpm.mode === 'none'
      ? null
      : await NodeKeys.open(config, record.tpm).catch((error: unknown) => {
          tpmTrouble = error;
          onProgress(`The TPM is of no use, so the bundle is unsigned: ${reasonOf(error)}`);
          return null;
        });
  try {
    const anchor = () => anchorCustody(keys, layout, ({ message }) => onProgress(message));
    return await makeBundle(
      { config, layout, record, custody, keys, tpmTrouble, anchor, collectors: [], onProgress },
      request,
    );
  } finally {
    await keys?.[Symbol.asyncDispose]();
  }
}
