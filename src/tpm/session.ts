// Sessions: salted to a storage key, AES-128-CFB parameter encryption both ways, so that a secret never crosses the bus
// in clear; and the policies built in them (TPM 2.0 Library, Part 1, sections 19 and 21; Part 3, sections 11 and 23).
import { type CommandName, esysHandle, noSessions } from './commands.ts';
import type { Connection } from './connection.ts';
import type { NativeArgument } from './library.ts';
import { release, type TpmObject } from './object.ts';
import { tpmError } from './responses.ts';
import {
  bufferSizes,
  pcrSelectionStructure,
  sessionSymmetric,
  sizedBuffer,
  sizedContent,
  structure,
} from './structs.ts';
import { algorithm } from './templates.ts';
import { Writer } from './wire.ts';

const sessionTypes = { hmac: 0, policy: 1, trial: 3 } as const;
/** TPMA_SESSION: continueSession, decrypt (commands), encrypt (answers). */
const encryptedBothWays = 0x01 | 0x20 | 0x40;
const allAttributes = 0xff;

/** A policy session, or a trial session that computes what a policy's digest would be. Dispose it: it is flushed. */
export class PolicySession implements AsyncDisposable {
  /** ESYS_TR. */
  readonly handle: number;
  readonly #connection: Connection;
  #open = true;

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

  /** The policy digest so far, SHA-256. */
  digest(): Promise<Uint8Array> {
    return this.#connection.execute('PolicyGetDigest', [this.handle, ...noSessions], ([digest = 0n]) =>
      sizedContent(this.#connection, digest),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await release(this.#connection, this.handle, true);
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
  const session = await startSession(connection, saltKey, 'hmac');
  try {
    return await work(session);
  } finally {
    await release(connection, session, true);
  }
}

function startSession(
  connection: Connection,
  saltKey: TpmObject,
  kind: keyof typeof sessionTypes,
): Promise<number> {
  return connection.execute(
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
    ([result = 0n]) => {
      const session = Number(result);
      const rc = connection.tss.setSessionAttributes(
        connection.esys,
        session,
        encryptedBothWays,
        allAttributes,
      );
      if (rc !== 0) throw tpmError(rc, 'Esys_TRSess_SetAttributes');
      return session;
    },
  );
}
