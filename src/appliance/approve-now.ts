// The step of provisioning that sees to it that the keys open in the present state of the machine: an approval that fits is
// there, is brought, is given by a policy signer that is on this node (a developer's), or is asked for.
import type { CustodyLog } from '../custody/log.ts';
import { Failure } from '../host/failure.ts';
import type { Approval } from '../keys/approval-format.ts';
import type { Tpm } from '../tpm/context.ts';
import {
  approvalNeeded,
  approvedHere,
  expectationOf,
  installApproval,
  type PresentState,
  parseBrought,
  presentState,
  readBrought,
  refusalOf,
  requestFor,
  storedApprovals,
  writeRequest,
} from './approvals.ts';
import { developmentSigner } from './authorities.ts';
import type { Config } from './config.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

type NodeAnchors = NonNullable<NodeRecord['tpm']>;

interface Step {
  readonly tpm: Tpm;
  readonly config: Config;
  readonly layout: StateLayout;
  readonly record: NodeRecord;
  readonly anchors: NodeAnchors;
  readonly custody: CustodyLog;
  /** Path of an approval that was brought. */
  readonly path: string | undefined;
  readonly zeroized: boolean;
}

export interface ApproveOutcome {
  /** The approved PCR values, hex by number; null where an approval is needed. */
  readonly pcrs: Record<string, string> | null;
  readonly changed: readonly string[];
}

/** @throws Failure `approval-needed` on a zeroized node; `tpm-still-capped`; why the approval that was brought is no good. */
export async function approveNow(step: Step): Promise<ApproveOutcome> {
  const { layout, record, anchors, custody } = step;
  const state = await presentState(step.tpm, anchors);
  const expected = expectationOf(record.node, record.keys, anchors.authorities, state);
  const fitting = storedApprovals(layout).find((approval) => refusalOf(approval, expected) === undefined);
  if (fitting !== undefined && step.path === undefined) return { pcrs: fitting.pcrs.values, changed: [] };
  if (step.path === undefined && step.zeroized) requireUncapped(anchors, state);
  const approval =
    step.path === undefined ? signedHere(step, state) : parseBrought(readBrought(step.path), expected);
  if (approval === undefined) {
    writeRequest(layout.approvalRequest, requestFor(record.node, record.keys, state, new Date()));
    if (step.zeroized) throw approvalNeeded(layout.approvalRequest);
    return { pcrs: null, changed: [] };
  }
  const { fitsNow, pcrs } = installApproval({ layout, custody }, approval, expected);
  if (fitsNow) return { pcrs, changed: ['approval'] };
  if (fitting === undefined && step.zeroized) throw refusalOf(approval, expected);
  return { pcrs: fitting?.pcrs.values ?? null, changed: ['approval'] };
}

function signedHere({ config, layout, record }: Step, state: PresentState): Approval | undefined {
  const signer = developmentSigner(config, layout);
  if (signer === undefined) return undefined;
  return approvedHere(requestFor(record.node, record.keys, state, new Date()), signer, new Date());
}

/** The cap holds until the TPM is reset; until then nothing would unseal. */
function requireUncapped({ capPcr, pcrs }: NodeAnchors, state: PresentState): void {
  const value = state.pcrs.get(capPcr);
  if (value === undefined || Buffer.from(value).toString('hex') === pcrs[capPcr]) return;
  throw new Failure('tpm-still-capped', `PCR ${capPcr} still holds the cap of the zeroize.`, {
    kept: 'The node stays zeroized, and nothing was unsealed.',
    remedy: 'Reboot the machine, which resets the TPM, then repeat `esoteric-appliance provision --re-arm`.',
  });
}
