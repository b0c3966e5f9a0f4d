// How a node stands with its TPM: whether it answers, whether the keys would open now, and how near a lockout is. For `status`.
import { Failure } from '../host/failure.ts';
import type { Config } from './config.ts';
import { NodeKeys } from './node-keys.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

export interface TpmCondition {
  /** Another TPM than the node's own answers too, and one that others have filled: `approval` is `tpm-swapped` or `tpm-memory`. */
  readonly answers: boolean;
  /** `approved`, or the code of the failure that says why the keys do not open in the present state. */
  readonly approval: string;
  /** Dictionary attack protection; null where the TPM does not answer, is another, or is full. The node's own objects are not subject to it. */
  readonly lockout: null | {
    readonly inLockout: boolean;
    readonly failedTries: number;
    readonly maxTries: number;
    /** Seconds until one failed try is forgiven. */
    readonly recoverySeconds: number;
  };
}

/** Never fails: a TPM that cannot be asked is told of as such. */
export async function conditionOf(
  keys: NodeKeys,
  layout: StateLayout,
  record: NodeRecord,
): Promise<TpmCondition> {
  try {
    const { counter, max, interval, inLockout } = await keys.lockout();
    const lockout = { inLockout, failedTries: counter, maxTries: max, recoverySeconds: interval };
    return { answers: true, approval: await approvalOf(keys, layout, record), lockout };
  } catch (error) {
    return outOfUse(error);
  }
}

/** For a node that does not run. Null where it has no TPM. */
export async function conditionOfStopped(
  config: Config,
  layout: StateLayout,
  record: NodeRecord,
): Promise<TpmCondition | null> {
  if (record.tpm === null || config.tpm.mode === 'none') return null;
  try {
    await using keys = await NodeKeys.open(config, record.tpm, 'leave');
    return await conditionOf(keys, layout, record);
  } catch (error) {
    return outOfUse(error);
  }
}

async function approvalOf(keys: NodeKeys, layout: StateLayout, record: NodeRecord): Promise<string> {
  try {
    await keys.approval(layout, record);
    return 'approved';
  } catch (error) {
    return codeOf(error);
  }
}

function outOfUse(error: unknown): TpmCondition {
  const approval = codeOf(error);
  return { answers: ['tpm-swapped', 'tpm-memory'].includes(approval), approval, lockout: null };
}

const codeOf = (error: unknown): string => (error instanceof Failure ? error.code : 'tpm-failed');
