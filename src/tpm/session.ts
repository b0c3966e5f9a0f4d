// Sessions: salted to a storage key, AES-128-CFB parameter encryption both ways, so that a secret never crosses the bus
// in clear; and the policies built in them (TPM 2.0 Library, Part 1, sections 19 and 21; Part 3, sections 11 and 23).
import { type CommandName, emptyAuth, esysHandle, noSessions } from './commands.ts';
import type { Connection } from './connection.ts';
import type { VerifiedTicket } from './external.ts';
import type { NativeArgument } from './library.ts';
import { withIndex } from './nv.ts';
import { type Hierarchy, release, type TpmObject } from './object.ts';
import { type Comparison, comparison } from './policy-digest.ts';
import { algorithm } from './registry.ts';
import { tpmError } from './responses.ts';
import {
  bufferSizes,
  pcrSelectionStructure,
  sessionSymmetric,
  sizedBuffer,
  sizedContent,
  structure,
} from './structs.ts';
import { Writer } from './wire.ts';

const sessionTypes = { hmac: 0, policy: 1, trial: 3 } as const;
/** TPMA_SESSION: continueSession, decrypt (commands), encrypt (answers). */
const continueSession = 0x01;
const encryptedBothWays = continueSession | 0x20 | 0x40;
const allAttributes = 0xff;
const neverExpires = 0;

/** Signs a message: a TPMT_SIGNATURE over its SHA-256. May be far away and slow. */
export type MessageSigner = (message: Uint8Array) => Uint8Array | Promise<Uint8Array>;

/** What PolicySigned wants signed: the session's nonce, no expiration, no command named, and the policy's reference. */
export const policySignedMessage = (nonce: Uint8Array, policyRef: Uint8Array): Uint8Array =>
  new Writer().bytes(nonce).u32(neverExpires).bytes(policyRef).done();

/** A policy session, or a trial session that computes what a policy's digest would be. Dispose it: it is flushed. */
export class PolicySession implements AsyncDisposable {
  /** ESYS_TR. */
  readonly handle: number;
  readonly #connection: Connection;
  #open = true;
  /** By the TPM, of itself. */
  #ended = false;

  constructor(connection: Connection, handle: number) {
    this.#connection = connection;
    this.handle = handle;
  }

  /**
   * PolicyPCR over PCRs of the SHA-256 bank: their present values, or `expectedDigest` (SHA-256 over the values in
   * ascending order), which a policy session must find true.
   */
  async policyPcr(pcrs: readonly number[], expectedDigest: Uint8Array = new Uint8Array()): Promise<void> {
    await this.#assert('PolicyPCR', [
      sizedBuffer(expectedDigest, bufferSizes.DIGEST),
      pcrSelectionStructure(this.#connection, 'sha256', pcrs),
    ]);
  }

  /** PolicyOR: the digest so far must be one of `branches` (two to eight SHA-256 digests). */
  async policyOr(branches: readonly Uint8Array[]): Promise<void> {
    const list = new Writer().u32(branches.length);
    for (const branch of branches) list.sized(branch);
    await this.#assert('PolicyOR', [structure(this.#connection, 'TPML_DIGEST', list.done())]);
  }

  /**
   * PolicyNV (section 23.9), authorized by the owner: what the index holds from `offset` on compares so with `operand`.
   * Checked now and not again when the session is used.
   */
  policyNv(index: number, operand: Uint8Array, offset = 0, compare: Comparison = 'equal'): Promise<void> {
    return withIndex(this.#connection, index, (nv) =>
      this.#connection.execute('PolicyNV', [
        esysHandle.owner,
        nv,
        this.handle,
        ...emptyAuth,
        sizedBuffer(operand, bufferSizes.DIGEST),
        offset,
        comparison[compare],
      ]),
    );
  }

  /**
   * PolicyAuthorize (section 23.16): the digest so far is `approvedPolicy`, which the key of this Name approved for
   * `policyRef`; `ticket` (`verifySignature`) says that its signature over SHA-256(approvedPolicy, policyRef) verified.
   */
  async policyAuthorize(
    signerName: Uint8Array,
    approvedPolicy: Uint8Array,
    policyRef: Uint8Array,
    ticket: VerifiedTicket,
  ): Promise<void> {
    await this.#assert('PolicyAuthorize', [
      sizedBuffer(approvedPolicy, bufferSizes.DIGEST),
      sizedBuffer(policyRef, bufferSizes.DIGEST),
      sizedBuffer(signerName, bufferSizes.NAME),
      ticket,
    ]);
  }

  /**
   * PolicySigned (section 23.3), bound to this session by its nonce and without an expiration: `sign` gets the message and
   * returns a TPMT_SIGNATURE over its SHA-256, good for this session only.
   */
  async policySigned(signer: TpmObject, policyRef: Uint8Array, sign: MessageSigner): Promise<void> {
    const nonce = await this.nonce();
    const signature = await sign(policySignedMessage(nonce, policyRef));
    await this.#connection.execute('PolicySigned', [
      signer.handle,
      this.handle,
      ...noSessions,
      sizedBuffer(nonce, bufferSizes.DIGEST),
      sizedBuffer(new Uint8Array(), bufferSizes.DIGEST), // any command
      sizedBuffer(policyRef, bufferSizes.DIGEST),
      neverExpires,
      structure(this.#connection, 'TPMT_SIGNATURE', signature),
    ]);
  }

  /** PolicySecret (section 23.4) of a hierarchy with an empty authorization, as the endorsement key wants it. */
  async policySecret(hierarchy: Hierarchy): Promise<void> {
    const nothing = sizedBuffer(new Uint8Array(), bufferSizes.DIGEST);
    const inputs = [nothing, nothing, nothing, neverExpires];
    await this.#connection.execute('PolicySecret', [
      esysHandle[hierarchy],
      this.handle,
      ...emptyAuth,
      ...inputs,
    ]);
  }

  /** PolicyCommandCode (section 23.11): only this command (TPM_CC). */
  async policyCommandCode(code: number): Promise<void> {
    await this.#connection.execute('PolicyCommandCode', [this.handle, ...noSessions, code]);
  }

  /** The TPM's latest nonce; each command that the session authorizes or encrypts makes a new one. */
  nonce(): Promise<Uint8Array> {
    const { tss, esys } = this.#connection;
    return this.#connection.between(() => {
      const address = new BigUint64Array(1);
      const rc = tss.sessionNonce(esys, this.handle, address);
      if (rc !== 0) throw tpmError(rc, 'Esys_TRSess_GetNonceTPM');
      const nonce = sizedContent(this.#connection, address[0] ?? 0n);
      tss.memory.free(address[0] ?? 0n);
      return nonce;
    });
  }

  /** The policy digest so far, SHA-256. */
  digest(): Promise<Uint8Array> {
    return this.#connection.execute('PolicyGetDigest', [this.handle, ...noSessions], ([digest = 0n]) =>
      sizedContent(this.#connection, digest),
    );
  }

  /**
   * Runs the command that the policy was built for, on which the TPM ends the session: one command less than flushing it. The
   * session stays open where that command fails.
   */
  async last<T>(command: () => Promise<T>): Promise<T> {
    await setAttributes(this.#connection, this.handle, 0, continueSession);
    const result = await command();
    this.#ended = true;
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await release(this.#connection, this.handle, !this.#ended);
  }

  #assert(command: CommandName, inputs: NativeArgument[]): Promise<void> {
    return this.#connection.execute(command, [this.handle, ...noSessions, ...inputs]);
  }
}

export async function startPolicySession(
  connection: Connection,
  saltKey: TpmObject,
  kind: 'policy' | 'trial',
): Promise<PolicySession> {
  return new PolicySession(connection, await startSession(connection, saltKey, kind));
}

/** Runs `work` with an HMAC session salted to `saltKey`, which authorizes with an empty password and encrypts. */
export async function withSaltedSession<T>(
  connection: Connection,
  saltKey: TpmObject,
  work: (session: number) => Promise<T>,
): Promise<T> {
  await using session = new SaltedSession(connection, await startSession(connection, saltKey, 'hmac'));
  return await work(session.handle);
}

/** Dispose it: it is flushed. */
class SaltedSession implements AsyncDisposable {
  /** ESYS_TR. */
  readonly handle: number;
  readonly #connection: Connection;

  constructor(connection: Connection, handle: number) {
    this.#connection = connection;
    this.handle = handle;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await release(this.#connection, this.handle, true);
  }
}

async function startSession(
  connection: Connection,
  saltKey: TpmObject,
  kind: keyof typeof sessionTypes,
): Promise<number> {
  const session = await connection.execute(
    'StartAuthSession',
    [
      saltKey.handle,
      esysHandle.none, // not bound
      ...noSessions,
      null, // ESYS draws the nonce
      sessionTypes[kind],
      sessionSymmetric,
      algorithm.sha256,
    ],
    ([result = 0n]) => Number(result),
  );
  try {
    await setAttributes(connection, session, encryptedBothWays, allAttributes);
    return session;
  } catch (error) {
    await release(connection, session, true);
    throw error;
  }
}

/** TPMA_SESSION: the bits of `mask` become those of `bits`. */
function setAttributes(connection: Connection, session: number, bits: number, mask: number): Promise<void> {
  const { tss, esys } = connection;
  return connection.between(() => {
    const rc = tss.setSessionAttributes(esys, session, bits, mask);
    if (rc !== 0) throw tpmError(rc, 'Esys_TRSess_SetAttributes');
  });
}
