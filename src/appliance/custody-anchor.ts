// Brings the custody log's head into the TPM, and tells when the TPM knows another history. Never stops what it belongs to.
import { checkLog } from '../custody/segments.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import type { Announcer } from './announce.ts';
import type { Config } from './config.ts';
import { type Anchored, NodeKeys } from './node-keys.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

/**
 * Undefined without a TPM that answers: the next anchoring makes up for it. Where the TPM knows another history, that is certified, so
 * that a bundle that is made now contradicts itself.
 */
export async function anchorCustody(
  keys: NodeKeys | null,
  layout: StateLayout,
  rewritten: (failure: Failure) => void,
  alive?: () => void,
): Promise<Anchored | undefined> {
  try {
    return await keys?.anchorCustody(checkLog(layout.custody, alive));
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'custody-rewritten') return undefined;
    rewritten(error);
    const certification = await keys?.certifyCustody(checkLog(layout.custody, alive)).catch(() => null);
    return { sequence: 0, certification: certification ?? null, problem: error.message };
  }
}

/** For a command that has no TPM open; told by the next start where it does not work out. */
export async function anchorOnce(config: Config, layout: StateLayout, record: NodeRecord): Promise<void> {
  if (record.tpm === null || config.tpm.mode === 'none') return;
  await using keys = await NodeKeys.open(config, record.tpm);
  await anchorCustody(keys, layout, () => {});
}

/** The alert of a custody log that is not the one that the TPM was told. */
export function alertRewritten(announcer: Announcer, record: NodeRecord, failure: Failure): void {
  announcer.alert({
    key: `${record.node}-custody-rewritten`,
    severity: 'alert',
    title: `${record.node}: the custody log was rewritten`,
    body: [failure.message, failure.remedy].join('\n'),
    facts: { why: reasonOf(failure) },
  });
}
