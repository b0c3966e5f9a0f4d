// NV indices under the owner: counters, ordinary data and extend-only digests (TPM 2.0 Library, Part 2, section 13;
// Part 3, section 31). A counter that is undefined and defined again never goes back.
import { emptyAuth, emptyAuths, esysHandle, noSessions } from './commands.ts';
import type { Connection } from './connection.ts';
import { definedArea, type NvDefinition, type NvPublic, nvNameOf, parseNvPublic } from './nv-public.ts';
import { handleAt, release, type TpmObject } from './object.ts';
import { type SignedAttest, signedAttest } from './signing.ts';
import { bufferSizes, ownScheme, sizedBuffer, sizedContent, structure, wireOf } from './structs.ts';
import { Reader, Writer } from './wire.ts';

/** Smallest TPM2_MAX_NV_BUFFER_SIZE in the field. */
const chunkSize = 512;

/** @throws TpmError `tpm-nv-defined` when the index exists; `tpm-nv-full` when there is no room for it. */
export async function nvDefine(
  connection: Connection,
  index: number,
  definition: NvDefinition,
): Promise<void> {
  const area = definedArea(index, definition);
  const info = structure(connection, 'TPM2B_NV_PUBLIC', new Writer().sized(area).done());
  const auth = sizedBuffer(new Uint8Array(), bufferSizes.DIGEST);
  const handle = await connection.execute(
    'NV_DefineSpace',
    [esysHandle.owner, ...emptyAuth, auth, info],
    ([handle = 0n]) => Number(handle),
  );
  await connection.between(() => connection.tss.closeObject(connection.esys, Uint32Array.of(handle)));
}

export function nvUndefine(connection: Connection, index: number): Promise<void> {
  return withIndex(connection, index, (nv) =>
    connection.execute('NV_UndefineSpace', [esysHandle.owner, nv, ...emptyAuth]),
  );
}

/** What an index is, with its TPMS_NV_PUBLIC and its Name (section 31.6). @throws TpmError `tpm-no-object` */
export function nvPublic(
  connection: Connection,
  index: number,
): Promise<NvPublic & { readonly area: Uint8Array; readonly name: Uint8Array }> {
  return withIndex(connection, index, async (nv) => {
    const area = await readPublicArea(connection, nv);
    return { ...parseNvPublic(area), area, name: nvNameOf(area) };
  });
}

export function nvIncrement(connection: Connection, index: number): Promise<void> {
  return withIndex(connection, index, (nv) =>
    connection.execute('NV_Increment', [esysHandle.owner, nv, ...emptyAuth]),
  );
}

/** The whole index, or its first `size` bytes. @throws TpmError `tpm-nv-unwritten` before the first write. */
export function nvRead(connection: Connection, index: number, size?: number): Promise<Uint8Array> {
  return withIndex(connection, index, async (nv) => {
    const bytes = new Uint8Array(size ?? (await dataSize(connection, nv)));
    for (let offset = 0; offset < bytes.byteLength; offset += chunkSize) {
      const length = Math.min(chunkSize, bytes.byteLength - offset);
      const chunk = await connection.execute(
        'NV_Read',
        [esysHandle.owner, nv, ...emptyAuth, length, offset],
        ([data = 0n]) => sizedContent(connection, data),
      );
      bytes.set(chunk, offset);
    }
    return bytes;
  });
}

export async function nvReadCounter(connection: Connection, index: number): Promise<bigint> {
  return new Reader(await nvRead(connection, index, 8)).u64();
}

export function nvWrite(connection: Connection, index: number, bytes: Uint8Array): Promise<void> {
  return withIndex(connection, index, async (nv) => {
    for (let offset = 0; offset < bytes.byteLength; offset += chunkSize) {
      const chunk = sizedBuffer(bytes.subarray(offset, offset + chunkSize), bufferSizes.MAX_NV_BUFFER);
      await connection.execute('NV_Write', [esysHandle.owner, nv, ...emptyAuth, chunk, offset]);
    }
  });
}

export function nvExtend(connection: Connection, index: number, bytes: Uint8Array): Promise<void> {
  return withIndex(connection, index, (nv) =>
    connection.execute('NV_Extend', [
      esysHandle.owner,
      nv,
      ...emptyAuth,
      sizedBuffer(bytes, bufferSizes.MAX_NV_BUFFER),
    ]),
  );
}

/** States the whole content of an index (at most `chunkSize` bytes). */
export function nvCertify(
  connection: Connection,
  index: number,
  ak: TpmObject,
  qualifyingData: Uint8Array,
): Promise<SignedAttest> {
  return withIndex(connection, index, async (nv) => {
    const size = await dataSize(connection, nv);
    const data = sizedBuffer(qualifyingData, bufferSizes.DATA);
    return connection.execute(
      'NV_Certify',
      [ak.handle, esysHandle.owner, nv, ...emptyAuths, data, ownScheme, size, 0],
      signedAttest(connection),
    );
  });
}

/** Runs `work` with the ESYS handle of an index. @throws TpmError `tpm-no-object` */
export async function withIndex<T>(
  connection: Connection,
  index: number,
  work: (handle: number) => Promise<T>,
): Promise<T> {
  const nv = await handleAt(connection, index);
  try {
    return await work(nv);
  } finally {
    await release(connection, nv, false);
  }
}

async function dataSize(connection: Connection, nv: number): Promise<number> {
  return parseNvPublic(await readPublicArea(connection, nv)).byteLength;
}

/** TPMS_NV_PUBLIC. */
function readPublicArea(connection: Connection, nv: number): Promise<Uint8Array> {
  return connection.execute('NV_ReadPublic', [nv, ...noSessions], ([area = 0n]) =>
    new Reader(wireOf(connection, 'TPM2B_NV_PUBLIC', area)).sized(),
  );
}
