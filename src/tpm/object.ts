// Keys and sealed data in the TPM: create, load, persist, flush (TPM 2.0 Library, Part 3, sections 12, 24 and 28).
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { emptyAuth, esysHandle, noSessions } from './commands.ts';
import type { Connection } from './connection.ts';
import { cleanseCopies } from './residue.ts';
import { TpmError, tpmError } from './responses.ts';
import { type PolicySession, withSaltedSession } from './session.ts';
import {
  bufferSizes,
  sensitiveCreate,
  sizedBuffer,
  sizedContent,
  sizedLength,
  structure,
  wireOf,
} from './structs.ts';
import { Reader, Writer } from './wire.ts';

export type Hierarchy = 'owner' | 'endorsement';

/** What a TPM makes for storage outside it. Only the TPM that made it, under the same parent, loads it. */
export interface ObjectBlob {
  /** TPMT_PUBLIC. */
  readonly public: Uint8Array;
  /** TPM2B_PRIVATE, size included: encrypted to the parent. */
  readonly private: Uint8Array;
}

/** An object that ESYS knows. Dispose it: a transient one is flushed from the TPM, a persistent one stays there. */
export class TpmObject implements AsyncDisposable {
  /** ESYS_TR. */
  readonly handle: number;
  /** TPM Name: algorithm and digest. */
  readonly name: Uint8Array;
  /** TPMT_PUBLIC; empty for an NV index. */
  readonly public: Uint8Array;
  readonly transient: boolean;
  readonly #connection: Connection;
  #open = true;

  constructor(
    connection: Connection,
    handle: number,
    area: { readonly name: Uint8Array; readonly public: Uint8Array },
    transient: boolean,
  ) {
    this.#connection = connection;
    this.handle = handle;
    this.name = area.name;
    this.public = area.public;
    this.transient = transient;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await release(this.#connection, this.handle, this.transient);
  }
}

/** Nothing is left to flush. */
const gone = ['tpm-no-object', 'tpm-failed', 'tpm-not-started'];

/** Lets go of an ESYS handle. A TPM that is gone, failed or was reset has nothing left to flush. */
export async function release(connection: Connection, handle: number, flush: boolean): Promise<void> {
  if (!flush) return closeHandle(connection, handle);
  try {
    await connection.execute('FlushContext', [handle]);
  } catch (error) {
    if (!(error instanceof TpmError) || (error.layer === 'tpm' && !gone.includes(error.code))) throw error;
    await closeHandle(connection, handle);
  }
}

async function closeHandle(connection: Connection, handle: number): Promise<void> {
  const { tss, esys } = connection;
  await connection.between(() => tss.closeObject(esys, Uint32Array.of(handle))).catch(ifClosed);
}

/** Closing the connection let go of everything. */
function ifClosed(error: unknown): void {
  if (!(error instanceof TpmError) || error.code !== 'tpm-closed') throw error;
}

const hierarchies = { owner: esysHandle.owner, endorsement: esysHandle.endorsement } as const;

export function createPrimary(
  connection: Connection,
  hierarchy: Hierarchy,
  template: Uint8Array,
  atLeastMilliseconds?: number,
): Promise<TpmObject> {
  const inputs = [publicStructure(connection, template), ...creationContext(connection)];
  const sensitive = sensitiveCreate(undefined);
  return connection.execute(
    'CreatePrimary',
    [hierarchies[hierarchy], ...emptyAuth, sensitive, ...inputs],
    ([handle = 0n, publicArea = 0n]) =>
      new TpmObject(
        connection,
        Number(handle),
        { name: nameOfHandle(connection, Number(handle)), public: publicAreaAt(connection, publicArea) },
        true,
      ),
    atLeastMilliseconds,
  );
}

/**
 * Makes a key, or seals `secret` (at most 128 bytes), under `parent`. The session is salted to the parent and encrypts
 * the secret on the bus. Copies made on the way: the command's structure and buffer, cleansed before this returns.
 */
export function create(
  connection: Connection,
  parent: TpmObject,
  template: Uint8Array,
  secret?: SecretBuffer,
): Promise<ObjectBlob> {
  return withSaltedSession(connection, parent, async (session) => {
    const sensitive = sensitiveCreate(secret?.bytes);
    try {
      return await connection.execute(
        'Create',
        [
          parent.handle,
          session,
          esysHandle.none,
          esysHandle.none,
          sensitive,
          publicStructure(connection, template),
          ...creationContext(connection),
        ],
        ([privateArea = 0n, publicArea = 0n]) => {
          if (secret !== undefined) cleanseCopies(connection, secret);
          return {
            public: publicAreaAt(connection, publicArea),
            private: new Writer().sized(sizedContent(connection, privateArea)).done(),
          };
        },
      );
    } finally {
      sensitive.fill(0);
    }
  });
}

/** @throws TpmError `tpm-foreign-blob` when the blob was changed or belongs to another TPM. */
export function load(connection: Connection, parent: TpmObject, blob: ObjectBlob): Promise<TpmObject> {
  const privateReader = new Reader(blob.private);
  const privateArea = privateReader.sized();
  privateReader.end();
  return connection.execute(
    'Load',
    [
      parent.handle,
      ...emptyAuth,
      sizedBuffer(privateArea, bufferSizes.PRIVATE),
      publicStructure(connection, blob.public),
    ],
    ([handle = 0n]) =>
      new TpmObject(
        connection,
        Number(handle),
        { name: nameOfHandle(connection, Number(handle)), public: blob.public },
        true,
      ),
  );
}

/** @throws TpmError `tpm-no-object` when nothing is there. */
export async function objectAt(connection: Connection, tpmHandle: number): Promise<TpmObject> {
  const isIndex = tpmHandle >>> 24 === 0x01;
  const { handle, name } = await connection.execute(
    'TR_FromTPMPublic',
    [tpmHandle, ...noSessions],
    ([handle = 0n]) => ({ handle: Number(handle), name: nameOfHandle(connection, Number(handle)) }),
  );
  const publicArea = isIndex ? new Uint8Array() : await readPublicArea(connection, handle);
  return new TpmObject(connection, handle, { name, public: publicArea }, false);
}

/** The handle must be free. Persistent handles up to 0x817fffff are the owner's, whatever hierarchy the object is in. */
export async function persist(connection: Connection, object: TpmObject, tpmHandle: number): Promise<void> {
  const persistent = await connection.execute(
    'EvictControl',
    [esysHandle.owner, object.handle, ...emptyAuth, tpmHandle],
    ([handle = 0n]) => Number(handle),
  );
  await release(connection, persistent, false);
}

export async function unpersist(connection: Connection, tpmHandle: number): Promise<void> {
  const object = await objectAt(connection, tpmHandle);
  await connection.execute('EvictControl', [esysHandle.owner, object.handle, ...emptyAuth, tpmHandle]);
}

/**
 * Unseals straight into the arena. The policy session encrypts the answer on the bus. Copies made on the way: the
 * library's result and its buffers, cleansed before this returns.
 * @throws TpmError `tpm-policy` when the session does not satisfy the object's policy.
 */
export function unseal(
  connection: Connection,
  object: TpmObject,
  policy: PolicySession,
  into: SecretArena,
  label: string,
): Promise<SecretBuffer> {
  return connection.execute(
    'Unseal',
    [object.handle, policy.handle, esysHandle.none, esysHandle.none],
    ([sensitive = 0n]) => {
      const { memory } = connection.tss;
      try {
        const secret = into.take(sizedLength(connection, sensitive), label);
        memory.move(secret.address, sensitive + 2n, secret.byteLength);
        cleanseCopies(connection, secret);
        return secret;
      } finally {
        memory.cleanse(sensitive, 2 + bufferSizes.SENSITIVE_DATA);
      }
    },
  );
}

export const publicStructure = (connection: Connection, publicArea: Uint8Array): Uint8Array =>
  structure(connection, 'TPM2B_PUBLIC', new Writer().sized(publicArea).done());

/** No outside information, no PCRs recorded at creation. */
const creationContext = (connection: Connection): Uint8Array[] => [
  sizedBuffer(new Uint8Array(), bufferSizes.DATA),
  structure(connection, 'TPML_PCR_SELECTION', new Writer().u32(0).done()),
];

function readPublicArea(connection: Connection, handle: number): Promise<Uint8Array> {
  return connection.execute('ReadPublic', [handle, ...noSessions], ([area = 0n]) =>
    publicAreaAt(connection, area),
  );
}

/** TPMT_PUBLIC out of a TPM2B_PUBLIC. */
function publicAreaAt(connection: Connection, address: bigint): Uint8Array {
  return new Reader(wireOf(connection, 'TPM2B_PUBLIC', address)).sized().slice();
}

/** Of a handle that ESYS knows. */
export function nameOfHandle(connection: Connection, handle: number): Uint8Array {
  const address = new BigUint64Array(1);
  const rc = connection.tss.objectName(connection.esys, handle, address);
  if (rc !== 0) throw tpmError(rc, 'Esys_TR_GetName');
  const name = sizedContent(connection, address[0] ?? 0n);
  connection.tss.memory.free(address[0] ?? 0n);
  return name;
}
