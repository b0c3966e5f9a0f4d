// The policy that opens a sealed key (docs/architecture.md, "Keys"): either the state that the policy signer approved, PCRs
// and the armed counter's value, or the recovery key's signature in this very session. Digests by TPM 2.0 Library, Part 3,
// section 23, computed without a TPM; `satisfy…` shows a TPM that one of the two holds.

import type { KeyObject } from 'node:crypto';
import { createHash, createPublicKey, sign as signMessage } from 'node:crypto';
import { Failure } from '../host/failure.ts';
import type { Tpm } from '../tpm/context.ts';
import { publicFromPem, signerName } from '../tpm/external.ts';
import { PolicyDigest, pcrDigest } from '../tpm/policy-digest.ts';
import { TpmError } from '../tpm/responses.ts';
import { type PolicySession, policySignedMessage } from '../tpm/session.ts';
import { signatureFromDer } from '../tpm/signature.ts';
import { Writer } from '../tpm/wire.ts';

/** Which key a policy is for; what is approved for one opens no other. */
export interface KeyIdentity {
  readonly node: string;
  readonly name: string;
  readonly purpose: string;
}

/** Public halves, in PEM, of the two keys that can open a sealed key. Their private halves are never on the node. */
export interface PolicyAuthorities {
  readonly signer: string;
  readonly recovery: string;
}

/** The policy of one key, the same for its life: approvals come and go, nothing is resealed. */
export interface KeyPolicy {
  readonly policyRef: Uint8Array;
  readonly authorities: PolicyAuthorities;
  /** Digests of the approved and of the recovery branch. */
  readonly branches: readonly [approved: Uint8Array, recovery: Uint8Array];
  /** What the key is sealed to: PolicyOR of the branches. */
  readonly digest: Uint8Array;
}

/** A state of the node that opens its keys. */
export interface ApprovedState {
  /** SHA-256 bank: 0, 7 and the cap PCR. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  /** TPM Name of the armed counter. */
  readonly counterName: Uint8Array;
  readonly counter: bigint;
}

/** A state that the policy signer approved for one key. */
export interface SignedState extends ApprovedState {
  /** NV index of the armed counter. */
  readonly counterIndex: number;
  /** DER, over `approvalMessage`. */
  readonly signature: Uint8Array;
}

const domain = 'esoteric-appliance/policy-ref/1';
const nonceSize = 32;

/** SHA-256 over a domain tag, node, name and purpose, each with its length in front. */
export function policyRefOf(key: KeyIdentity): Uint8Array {
  const writer = new Writer();
  for (const part of [domain, key.node, key.name, key.purpose]) writer.sized(Buffer.from(part));
  return sha256(writer.done());
}

/** @throws Failure `signer-unsupported`; `signers-equal` when one key would be both authorities. */
export function keyPolicy(key: KeyIdentity, authorities: PolicyAuthorities): KeyPolicy {
  const [signer, recovery] = [signerName(authorities.signer), signerName(authorities.recovery)];
  if (Buffer.compare(signer, recovery) === 0) {
    throw new Failure('signers-equal', 'The policy signer and the recovery key are the same key.', {
      remedy: 'Use two keys, kept in two places.',
    });
  }
  const policyRef = policyRefOf(key);
  const approved = PolicyDigest.start.authorize(signer, policyRef);
  const recovered = PolicyDigest.start.signed(recovery, policyRef);
  return {
    policyRef,
    authorities,
    branches: [approved.value, recovered.value],
    digest: PolicyDigest.or(approved, recovered).value,
  };
}

/** Digest of { PolicyPCR and PolicyNV(armed counter == N) }: what the policy signer approves. */
export function approvedPolicyOf(state: ApprovedState): Uint8Array {
  return PolicyDigest.start.pcr(state.pcrs).nv(state.counterName, operandOf(state.counter), 0, 'equal').value;
}

/** What the policy signer signs, ECDSA with SHA-256 (Part 3, section 23.16.1: aHash). */
export const approvalMessage = (approvedPolicy: Uint8Array, policyRef: Uint8Array): Uint8Array =>
  Buffer.concat([approvedPolicy, policyRef]);

/**
 * Brings a fresh session to `policy.digest` by an approval. The TPM alone judges.
 * @throws TpmError `tpm-policy` when the PCRs or the counter are not those approved, or the approval is for another key.
 */
export async function satisfyApproved(
  tpm: Tpm,
  session: PolicySession,
  policy: KeyPolicy,
  state: SignedState,
): Promise<void> {
  const approved = approvedPolicyOf(state);
  await refusing('The PCRs are not those approved', () =>
    session.policyPcr([...state.pcrs.keys()], pcrDigest(state.pcrs)),
  );
  await refusing('The armed counter is not at the value approved', () =>
    session.policyNv(state.counterIndex, operandOf(state.counter)),
  );
  await refusing('The approval is not for this key and state, or not by its policy signer', async () => {
    await using signer = await tpm.loadExternal(publicFromPem(policy.authorities.signer));
    const digest = sha256(approvalMessage(approved, policy.policyRef));
    const ticket = await tpm.verifySignature(signer, digest, signatureFromDer(state.signature));
    await session.policyAuthorize(signer.name, approved, policy.policyRef, ticket);
    await session.policyOr(policy.branches);
  });
}

/**
 * Brings a fresh session to `policy.digest` by the recovery key: `sign` gets the message of this session, which goes to
 * wherever that key is (`signRecovery`), and returns the signature in DER.
 * @throws TpmError `tpm-policy` when the signature is not the recovery key's over that message.
 */
export async function satisfyRecovery(
  tpm: Tpm,
  session: PolicySession,
  policy: KeyPolicy,
  sign: (message: Uint8Array) => Uint8Array | Promise<Uint8Array>,
): Promise<void> {
  await using recovery = await tpm.loadExternal(publicFromPem(policy.authorities.recovery));
  const signed = async (message: Uint8Array) => signatureFromDer(await sign(message));
  await refusing('The signature is not the recovery key’s for this key and session', async () => {
    await session.policySigned(recovery, policy.policyRef, signed);
    await session.policyOr(policy.branches);
  });
}

/**
 * Off the node, where the recovery key is: signs a session's message once it is clear that it opens the key meant.
 * @throws Failure `recovery-foreign` when it is for another key or is no such message.
 */
export function signRecovery(message: Uint8Array, key: KeyIdentity, privateKey: KeyObject): Uint8Array {
  const expected = policySignedMessage(message.subarray(0, nonceSize), policyRefOf(key));
  if (message.length !== expected.length || Buffer.compare(message, expected) !== 0) {
    throw new Failure(
      'recovery-foreign',
      `The message does not open key "${key.name}" of node "${key.node}".`,
      {
        kept: 'Nothing was signed.',
        remedy: 'Have the node make the message anew, and name the key that it is for.',
      },
    );
  }
  return signMessage('sha256', message, privateKey);
}

/** Hex SHA-256 of a public key's SubjectPublicKeyInfo: how people and files name a signer. */
export function fingerprintOf(key: KeyObject | string): string {
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  return sha256(spki).toString('hex');
}

/** The armed counter as PolicyNV compares it: 64 bits, big-endian. */
const operandOf = (counter: bigint): Uint8Array => new Writer().u64(counter).done();

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

/** TPM_RC_VALUE and TPM_RC_SIGNATURE of an assertion that does not hold; TPM_RC_POLICY says so already. */
const assertionRefused = [0x084, 0x09b];

/** Words for an assertion that the TPM found untrue; every other failure passes as it is. */
async function refusing(sentence: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const untrue =
      error instanceof TpmError &&
      (error.code === 'tpm-policy' || assertionRefused.includes(error.rc & 0xbf));
    if (!untrue) throw error;
    throw new TpmError('tpm-policy', `${sentence}: ${lowerFirst(error.message)}`, error.rc, 'tpm', {
      kept: 'The key stays sealed.',
      remedy:
        'After an approved update or a zeroize, have a new approval signed off the node (`esoteric-appliance approve`), then `esoteric-appliance provision --approval APPROVAL` (on a zeroized node `--re-arm APPROVAL`).',
      cause: error,
    });
  }
}

const lowerFirst = (sentence: string): string => sentence.charAt(0).toLowerCase() + sentence.slice(1);
