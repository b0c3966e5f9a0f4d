// The approvals of a node: which states of this machine its policy signer lets the keys open in. Several may stand side by side,
// one for the state before an update and one for the state after it; the TPM judges each by itself.
import { createHash, type KeyObject } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { CustodyLog } from '../custody/log.ts';
import { writeDurably } from '../host/durable.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { approvalRequest, checkApproval, type Expectation, signApproval } from '../keys/approval.ts';
import { type Approval, type ApprovalRequest, parseApproval } from '../keys/approval-format.ts';
import type { PolicyAuthorities } from '../keys/policy.ts';
import type { Tpm } from '../tpm/context.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

type Keys = NodeRecord['keys'];
type NodeAnchors = NonNullable<NodeRecord['tpm']>;

/** What an approval is held against. */
export interface PresentState {
  /** SHA-256 bank: the PCRs that keys are sealed to. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  /** Of the armed counter. */
  readonly counter: bigint;
  /** TPMS_NV_PUBLIC of the armed counter. */
  readonly counterPublic: Uint8Array;
}

/** @throws Failure `armed-counter-gone` where the counter is not there any more. */
export async function presentState(tpm: Tpm, anchors: NodeAnchors): Promise<PresentState> {
  const { armedIndex } = anchors;
  if (!(await tpm.nvIndices()).includes(armedIndex)) {
    throw new Failure('armed-counter-gone', 'The armed counter of this node is gone from the TPM.', {
      kept: 'The keys stay sealed: no approval opens them without the counter that it names.',
      remedy: 'Somebody cleared the TPM or removed the index. Deprovision the node and provision it anew.',
    });
  }
  return {
    pcrs: await tpm.pcrRead('sha256', Object.keys(anchors.pcrs).map(Number)),
    counter: await tpm.nvReadCounter(armedIndex),
    counterPublic: (await tpm.nvPublic(armedIndex)).area,
  };
}

/** All approvals that are there. @throws Failure `approval-invalid` naming the file that is none. */
export const storedApprovals = (layout: StateLayout): Approval[] =>
  approvalFiles(layout).map(([, approval]) => approval);

function approvalFiles(layout: StateLayout): [path: string, approval: Approval][] {
  if (!existsSync(layout.approvals)) return [];
  const files = readdirSync(layout.approvals).filter((file) => file.endsWith('.json'));
  return files.sort().map((file) => {
    const path = join(layout.approvals, file);
    try {
      return [path, parseApproval(readFileSync(path, 'utf8'))];
    } catch (cause) {
      throw new Failure('approval-invalid', `${path}: ${reasonOf(cause)}`, {
        kept: 'The keys stay sealed.',
        remedy:
          'Remove that file, and install the approval anew with `esoteric-appliance provision --approval`.',
        cause,
      });
    }
  });
}

/** What became of an approval that was brought. */
export interface Installed {
  readonly node: string;
  /** Of the armed counter, decimal. */
  readonly counter: string;
  /** Hex by number. */
  readonly pcrs: Readonly<Record<string, string>>;
  /** Whether it opens the keys in the present state; else it is kept for the state that it is for. */
  readonly fitsNow: boolean;
}

/** Keeps an approval, drops those that the counter has revoked, and says so in the custody log. */
export function installApproval(
  node: { readonly layout: StateLayout; readonly custody: CustodyLog },
  approval: Approval,
  expected: Expectation,
): Installed {
  storeApproval(node.layout, approval);
  pruneApprovals(node.layout, expected);
  const { counter, signer } = approval;
  const installed = {
    node: approval.node,
    counter,
    pcrs: approval.pcrs.values,
    fitsNow: refusalOf(approval, expected) === undefined,
  };
  node.custody.append('state-approved', {
    counter,
    pcrs: installed.pcrs,
    signer,
    fitsNow: installed.fitsNow,
  });
  return installed;
}

/**
 * An approval as somebody brings it. One for another state of the PCRs is good too, as long as the rest is right.
 * @throws Failure `approval-invalid`, and those of `checkApproval` except `approval-pcrs`.
 */
export function parseBrought(text: string, expected: Expectation): Approval {
  const approval = parseApproval(text);
  if (isOfUse(approval, expected)) return approval;
  throw refusalOf(approval, expected);
}

/** @throws Failure `approval-unreadable`. */
export function readBrought(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new Failure('approval-unreadable', `The approval ${path} cannot be read: ${reasonOf(cause)}.`, {
      kept: 'The keys stay sealed.',
      remedy: 'Check the path.',
      status: exitStatus.usage,
      cause,
    });
  }
}

function storeApproval(layout: StateLayout, approval: Approval): void {
  mkdirSync(layout.approvals, { recursive: true, mode: 0o700 });
  const text = `${JSON.stringify(approval, null, 2)}\n`;
  writeDurably(
    join(layout.approvals, `${createHash('sha256').update(text).digest('hex').slice(0, 16)}.json`),
    text,
  );
}

/** Removes what opens nothing any more: revoked by the counter, or by a signer that was replaced. */
function pruneApprovals(layout: StateLayout, expected: Expectation): void {
  for (const [path, approval] of approvalFiles(layout)) if (!isOfUse(approval, expected)) rmSync(path);
}

/** Now, or once the PCRs have the values that it is for. */
function isOfUse(approval: Approval, expected: Expectation): boolean {
  const refusal = refusalOf(approval, expected);
  return refusal === undefined || refusal.code === 'approval-pcrs';
}

export const expectationOf = (
  node: string,
  keys: Keys,
  authorities: PolicyAuthorities,
  state: PresentState,
): Expectation => ({ node, keys, signer: authorities.signer, ...state });

/** How near an approval came that was refused: the failure of the nearest is told. */
const nearness = [
  'approval-pcrs',
  'approval-stale',
  'approval-incomplete',
  'approval-other-counter',
  'approval-unknown-signer',
  'approval-forged',
  'approval-foreign',
];

/**
 * The approval that opens the keys now.
 * @throws Failure `approval-missing` where there is none at all; else that of the approval that came nearest.
 */
export function fittingApproval(approvals: readonly Approval[], expected: Expectation): Approval {
  const fitting = approvals.find((approval) => refusalOf(approval, expected) === undefined);
  if (fitting !== undefined) return fitting;
  throw nearestRefusal(approvals, expected) ?? approvalMissing();
}

/** Of approvals none of which opens the keys; undefined where there are none. */
export function nearestRefusal(approvals: readonly Approval[], expected: Expectation): Failure | undefined {
  const [nearest] = approvals
    .flatMap((approval) => refusalOf(approval, expected) ?? [])
    .sort((a, b) => nearness.indexOf(a.code) - nearness.indexOf(b.code));
  return nearest;
}

/** Why an approval does not open the keys in that state; undefined where it does. */
export function refusalOf(approval: Approval, expected: Expectation): Failure | undefined {
  try {
    checkApproval(approval, expected);
    return undefined;
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

const approvalMissing = (): Failure =>
  new Failure('approval-missing', 'Nobody has approved the state of this machine yet.', {
    kept: 'The keys stay sealed.',
    remedy:
      'Take approval-request.json from the state directory to the policy signer (`esoteric-appliance approve`), then `esoteric-appliance provision --approval FILE`.',
  });

/** The node's question about a state. */
export function requestFor(node: string, keys: Keys, state: PresentState, created: Date): ApprovalRequest {
  return approvalRequest({ node, keys, ...state, created });
}

export function writeRequest(path: string, request: ApprovalRequest): void {
  writeDurably(path, `${JSON.stringify(request, null, 2)}\n`, 0o644);
}

/** The answer of a policy signer that is here, on a node of a developer's. */
export const approvedHere = (request: ApprovalRequest, signer: KeyObject, created: Date): Approval =>
  signApproval(request, signer, { requiredPcrs: Object.keys(request.pcrs.values).map(Number), created });

/** The request is written; what follows is the policy signer's. */
export const approvalNeeded = (requestPath: string): Failure =>
  new Failure('approval-needed', 'The policy signer must approve the state of this machine first.', {
    kept: 'The node stays zeroized, and the keys stay sealed.',
    remedy: `Have ${requestPath} signed off this node with \`esoteric-appliance approve\`, then \`esoteric-appliance provision --re-arm APPROVAL\`.`,
    status: exitStatus.zeroized,
  });
