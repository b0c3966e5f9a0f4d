// Approvals: the node asks with its state, the policy signer answers off the node, the node checks before it tries. Pure. The
// TPM judges again by itself; the signature covers the policy digests only, so that `created` is asserted, not proven.
import { type KeyObject, sign, verify } from 'node:crypto';
import { Failure } from '../host/failure.ts';
import { nvNameOf, parseNvPublic } from '../tpm/nv-public.ts';
import { signatureFromDer } from '../tpm/signature.ts';
import type { Approval, ApprovalRequest } from './approval-format.ts';
import {
  type ApprovedState,
  approvalMessage,
  approvedPolicyOf,
  fingerprintOf,
  type KeyIdentity,
  policyRefOf,
  type SignedState,
} from './policy.ts';

/** The node's question: may its keys open in this state? Times and values are handed in. */
export function approvalRequest(question: {
  readonly node: string;
  readonly keys: readonly { readonly name: string; readonly purpose: string }[];
  /** SHA-256 bank. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  readonly counter: bigint;
  /** TPMS_NV_PUBLIC. */
  readonly counterPublic: Uint8Array;
  readonly created: Date;
}): ApprovalRequest {
  const ascending = [...question.pcrs].sort(([a], [b]) => a - b);
  return {
    format: 'esoteric-appliance-approval-request/1',
    node: question.node,
    keys: question.keys.map(({ name, purpose }) => ({ name, purpose })),
    pcrs: { bank: 'sha256', values: Object.fromEntries(ascending.map(([pcr, value]) => [pcr, hex(value)])) },
    counter: String(question.counter),
    counterPublic: Buffer.from(question.counterPublic).toString('base64'),
    created: question.created.toISOString(),
  };
}

/** What the signer should look at twice before signing; empty when all is as usual. */
export function concernsAbout(request: ApprovalRequest, capPcr: number): string[] {
  const values = Object.entries(request.pcrs.values);
  const blank = values.filter(
    ([pcr, value]) => Number(pcr) !== capPcr && /^(?:(?:00)+|(?:ff)+)$/.test(value),
  );
  const cap = request.pcrs.values[capPcr];
  return [
    ...blank.map(([pcr]) => `PCR ${pcr} has never been extended: nothing measured this machine's boot.`),
    ...(cap !== undefined && !/^0+$/.test(cap)
      ? [`PCR ${capPcr} is capped: the node was locked and its TPM has not been reset since.`]
      : []),
  ];
}

/**
 * Off the node: signs each key's policy for the state in the request, which is recomputed from what can be read in it.
 * `requiredPcrs`: the request must select these and no others (0, 7 and the cap PCR).
 * @throws Failure `approval-unsafe` when the state would not hold a lock: other PCRs, or an index that is no counter.
 */
export function signApproval(
  request: ApprovalRequest,
  privateKey: KeyObject,
  rules: { readonly requiredPcrs: readonly number[]; readonly created: Date },
): Approval {
  assertSafe(request, rules.requiredPcrs);
  const approvedPolicy = approvedPolicyOf(stateOf(request));
  return {
    ...request,
    format: 'esoteric-appliance-approval/1',
    keys: request.keys.map(({ name, purpose }) => {
      const policyRef = policyRefOf({ node: request.node, name, purpose });
      const signature = sign('sha256', approvalMessage(approvedPolicy, policyRef), privateKey);
      return {
        name,
        purpose,
        policyRef: hex(policyRef),
        approvedPolicy: hex(approvedPolicy),
        signature: signature.toString('base64'),
      };
    }),
    signer: fingerprintOf(privateKey),
    created: rules.created.toISOString(),
  };
}

/** What the node knows when it is handed an approval. */
export interface Expectation {
  readonly node: string;
  /** PEM of the policy signer it was provisioned with. */
  readonly signer: string;
  /** Keys that it must cover. */
  readonly keys: readonly { readonly name: string; readonly purpose: string }[];
  /** TPMS_NV_PUBLIC of its armed counter. */
  readonly counterPublic: Uint8Array;
  readonly counter: bigint;
  /** Present values, SHA-256 bank; only those that the approval names are looked at. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
}

/**
 * Whether the approval is good for this node now, without asking the TPM to try.
 * @throws Failure `approval-foreign`, `approval-unknown-signer`, `approval-other-counter`, `approval-forged`,
 * `approval-incomplete`, `approval-stale` (the counter moved), `approval-pcrs`.
 */
export function checkApproval(approval: Approval, expected: Expectation): void {
  if (approval.node !== expected.node)
    throw refused('approval-foreign', `The approval is for node "${approval.node}", not "${expected.node}".`);
  if (approval.signer !== fingerprintOf(expected.signer))
    throw refused('approval-unknown-signer', 'The approval is not by the policy signer of this node.');
  if (Buffer.compare(Buffer.from(approval.counterPublic, 'base64'), expected.counterPublic) !== 0)
    throw refused('approval-other-counter', 'The approval is for another armed counter than this node’s.');
  for (const key of approval.keys) assertSigned(approval, key, expected.signer);
  for (const key of expected.keys) signedStateOf(approval, { node: expected.node, ...key });
  if (BigInt(approval.counter) !== expected.counter)
    throw refused(
      'approval-stale',
      `The approval is for counter value ${approval.counter}; the armed counter is at ${expected.counter}.`,
    );
  const differing = Object.entries(approval.pcrs.values)
    .filter(([pcr, value]) => hex(expected.pcrs.get(Number(pcr)) ?? new Uint8Array()) !== value)
    .map(([pcr]) => pcr);
  if (differing.length > 0)
    throw refused('approval-pcrs', `PCR ${differing.join(', ')} ${notAsItWas(differing)} approved.`);
}

/**
 * The part of an approval that opens one key, for `satisfyApproved`.
 * @throws Failure `approval-incomplete` when the approval does not cover the key.
 */
export function signedStateOf(approval: Approval, key: KeyIdentity): SignedState {
  const entry = approval.keys.find(({ name, purpose }) => name === key.name && purpose === key.purpose);
  if (entry === undefined || approval.node !== key.node) {
    throw refused('approval-incomplete', `The approval does not cover key "${key.name}" (${key.purpose}).`);
  }
  return {
    ...stateOf(approval),
    counterIndex: parseNvPublic(Buffer.from(approval.counterPublic, 'base64')).index,
    signature: Buffer.from(entry.signature, 'base64'),
  };
}

function stateOf(document: ApprovalRequest | Approval): ApprovedState {
  const values = Object.entries(document.pcrs.values);
  return {
    pcrs: new Map(values.map(([pcr, value]) => [Number(pcr), Buffer.from(value, 'hex')])),
    counterName: nvNameOf(Buffer.from(document.counterPublic, 'base64')),
    counter: BigInt(document.counter),
  };
}

function assertSafe(request: ApprovalRequest, requiredPcrs: readonly number[]): void {
  const selected = Object.keys(request.pcrs.values).map(Number);
  if (selected.length !== requiredPcrs.length || !requiredPcrs.every((pcr) => selected.includes(pcr))) {
    throw refused(
      'approval-unsafe',
      `The request selects PCR ${selected.join(', ')} instead of ${requiredPcrs.join(', ')}.`,
    );
  }
  const { kind, attributes } = parseNvPublic(Buffer.from(request.counterPublic, 'base64'));
  if (kind !== 'counter' || !attributes.includes('written')) {
    throw refused(
      'approval-unsafe',
      'The armed index of the request is not a counter in use: it could be turned back.',
    );
  }
}

function assertSigned(approval: Approval, key: Approval['keys'][number], signer: string): void {
  const policyRef = policyRefOf({ node: approval.node, ...key });
  const approvedPolicy = approvedPolicyOf(stateOf(approval));
  const follows = key.policyRef === hex(policyRef) && key.approvedPolicy === hex(approvedPolicy);
  const signature = Buffer.from(key.signature, 'base64');
  if (follows && verify('sha256', approvalMessage(approvedPolicy, policyRef), signer, signature)) {
    signatureFromDer(signature); // In the one form that the TPM will be given.
    return;
  }
  throw refused('approval-forged', `The approval of key "${key.name}" is not what its policy signer signed.`);
}

const notAsItWas = ({ length }: readonly unknown[]): string =>
  length > 1 ? 'are not as they were' : 'is not as it was';

function refused(code: string, message: string): Failure {
  return new Failure(code, message, {
    kept: 'The keys stay sealed.',
    remedy:
      'Make a new request on this node and have it signed off the node: `esoteric-appliance approve`, then `esoteric-appliance provision --approval APPROVAL` (on a zeroized node `--re-arm APPROVAL`).',
  });
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
