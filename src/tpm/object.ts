// Keys and sealed data in the TPM: create, load, persist, flush (TPM 2.0 Library, Part 3, sections 12, 24 and 28).
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { emptyAuth, esysHandle, noSessions } from './commands.ts';
import type { Connection } from './connection.ts';
import { cleanseCopies, takeOver } from './residue.ts';
import { TpmError, tpmError } from './responses.ts';
import { type PolicySession, withSaltedSession } from './session.ts';
import {
  bufferSizes,
  sensitiveCreate,
  sensitiveData,
  sizedBuffer,
  sizedContent,
  sizedLength,
  structure,
  wireOf,
} from './structs.ts';
import { nameOf } from './structures.ts';
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
  /** TPMT_PUBLIC of what was made or loaded here; empty for what was found in the TPM (but `describedObjectAt`). */
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

/** Lets go of an ESYS handle; one that ESYS closed itself does no harm. A TPM that is gone, failed or was reset has nothing left to flush. */
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
  const { tss, esys, holders } = connection;
  const close = (): void => {
    const others = (holders.get(handle) ?? 1) - 1;
    if (others > 0) {
      holders.set(handle, others);
      return;
    }
    holders.delete(handle);
    tss.closeObject(esys, Uint32Array.of(handle));
  };
  await connection.between(close).catch(ifClosed);
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
    ([handle = 0n, area = 0n]) => transientObject(connection, handle, publicAreaAt(connection, area)),
    atLeastMilliseconds === undefined ? {} : { atLeastMilliseconds },
  );
}

/**
 * Makes a key, or seals `secret` (at most 128 bytes), under `parent`. The session is salted to the parent and encrypts
 * the secret on the bus. Copies made on the way: the command's structure and buffer, cleansed before this returns or throws.
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
        ([privateArea = 0n, publicArea = 0n]) => ({
          public: publicAreaAt(connection, publicArea),
          private: new Writer().sized(sizedContent(connection, privateArea)).done(),
        }),
        {
          afterwards: () => {
            const address = sensitiveData(sensitive, secret?.byteLength ?? 0);
            cleanseCopies(connection, { address, byteLength: address.byteLength });
          },
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
    ([handle = 0n]) => transientObject(connection, handle, blob.public),
  );
}

/** An object that was just loaded. ESYS knows it by the Name that follows from its public area, and so does this program. */
export const transientObject = (connection: Connection, handle: bigint, area: Uint8Array): TpmObject =>
  new TpmObject(connection, Number(handle), { name: new Uint8Array(nameOf(area)), public: area }, true);

/**
 * What is at a persistent handle, or an NV index. Its Name is that of the public area by which ESYS knows it, to which sessions
 * are salted: whoever compares the Name is sure of the key.
 * @throws TpmError `tpm-no-object` when nothing is there.
 */
export async function objectAt(connection: Connection, tpmHandle: number): Promise<TpmObject> {
  const handle = await handleAt(connection, tpmHandle);
  try {
    const name = await connection.between(() => nameOfHandle(connection, handle));
    return new TpmObject(connection, handle, { name, public: new Uint8Array() }, false);
  } catch (error) {
    await release(connection, handle, false);
    throw error;
  }
}

/** As `objectAt`, with its public area, which is asked for by itself. */
export async function describedObjectAt(connection: Connection, tpmHandle: number): Promise<TpmObject> {
  const object = await objectAt(connection, tpmHandle);
  try {
    const area = await readPublicArea(connection, object);
    return new TpmObject(connection, object.handle, { name: object.name, public: area }, false);
  } catch (error) {
    await object[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * The ESYS_TR of a persistent object or an NV index, to be released. ESYS has one for all who ask, and tpm2-tss before 4.0 does not
 * count them, so that the first to let go would take it from the others: they are counted here.
 * @throws TpmError `tpm-no-object`
 */
export const handleAt = (connection: Connection, tpmHandle: number): Promise<number> =>
  connection.execute('TR_FromTPMPublic', [tpmHandle, ...noSessions], ([result = 0n]) => {
    const handle = Number(result);
    connection.holders.set(handle, (connection.holders.get(handle) ?? 0) + 1);
    return handle;
  });

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
  const handle = await handleAt(connection, tpmHandle);
  try {
    await connection.execute('EvictControl', [esysHandle.owner, handle, ...emptyAuth, tpmHandle]);
  } finally {
    await release(connection, handle, false);
  }
}

/**
 * Unseals straight into the arena. The policy session encrypts the answer on the bus, and ends. Copies made on the way: the
 * library's result and its buffers, cleansed before this returns or throws.
 * @throws TpmError `tpm-policy` when the session does not satisfy the object's policy; Failure `zeroized`.
 */
export function unseal(
  connection: Connection,
  object: TpmObject,
  policy: PolicySession,
  into: SecretArena,
  label: string,
): Promise<SecretBuffer> {
  return policy.last(() =>
    connection.execute(
      'Unseal',
      [object.handle, policy.handle, esysHandle.none, esysHandle.none],
      ([sensitive = 0n]) => {
        const result = { address: sensitive + 2n, byteLength: sizedLength(connection, sensitive) };
        return takeOver(connection, result, into, label);
      },
    ),
  );
}

export const publicStructure = (connection: Connection, publicArea: Uint8Array): Uint8Array =>
  structure(connection, 'TPM2B_PUBLIC', new Writer().sized(publicArea).done());

/** No outside information, no PCRs recorded at creation. */
const creationContext = (connection: Connection): Uint8Array[] => [
  sizedBuffer(new Uint8Array(), bufferSizes.DATA),
  structure(connection, 'TPML_PCR_SELECTION', new Writer().u32(0).done()),
];

/** TPMT_PUBLIC (section 12.4). */
function readPublicArea(connection: Connection, object: TpmObject): Promise<Uint8Array> {
  return connection.execute('ReadPublic', [object.handle, ...noSessions], ([area = 0n]) =>
    publicAreaAt(connection, area),
  );
}

/** TPMT_PUBLIC out of a TPM2B_PUBLIC. */
function publicAreaAt(connection: Connection, address: bigint): Uint8Array {
  return new Reader(wireOf(connection, 'TPM2B_PUBLIC', address)).sized().slice();
}

/** Of a handle that ESYS knows. */
function nameOfHandle(connection: Connection, handle: number): Uint8Array {
  const address = new BigUint64Array(1);
  const rc = connection.tss.objectName(connection.esys, handle, address);
  if (rc !== 0) throw tpmError(rc, 'Esys_TR_GetName');
  const name = sizedContent(connection, address[0] ?? 0n);
  connection.tss.memory.free(address[0] ?? 0n);
  return name;
}
