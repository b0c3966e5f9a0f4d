// Between the wire format and the C structures of tpm2-tss (tss2_tpm2_types.h). Unions are never modelled: the library's
// own marshalling fills and reads them. TPM2B structures are a 16-bit length in host order and a fixed-size buffer.

import type { Tss } from './library.ts';
import { algorithm } from './registry.ts';
import { type TpmError, tpmError } from './responses.ts';
import { Writer } from './wire.ts';

/** sizeof of the C structures, the same in tss2 3.2 and 4.2. */
const sizes = {
  TPM2B_PUBLIC: 616,
  TPM2B_NV_PUBLIC: 84,
  TPML_PCR_SELECTION: 132,
  TPML_DIGEST: 532,
  TPML_DIGEST_VALUES: 1060,
  TPMT_SIGNATURE: 518,
} as const;
export const bufferSizes = {
  DIGEST: 64,
  DATA: 64,
  PRIVATE: 1550,
  MAX_NV_BUFFER: 2048,
  NAME: 68,
  ID_OBJECT: 132,
  ENCRYPTED_SECRET: 512,
} as const;
const sensitiveCreateSize = 326;
const sensitiveDataOffset = 2 + 66; // after its own size and the (empty) authorization
const longestWire = 4096;

/** Whoever has the library loaded: a `Connection`. */
interface Marshalling {
  readonly tss: Tss;
}

/** A C structure filled from wire bytes by `Tss2_MU_<type>_Unmarshal`. */
export function structure(connection: Marshalling, type: keyof typeof sizes, wire: Uint8Array): Uint8Array {
  const target = new Uint8Array(sizes[type]);
  const offset = new BigUint64Array(1);
  const rc = connection.tss.marshaller(type, 'Unmarshal')(wire, wire.byteLength, offset, target);
  if (rc !== 0) throw tpmError(rc, `${type}_Unmarshal`);
  return target;
}

/** The wire bytes of a C structure at `address`, by `Tss2_MU_<type>_Marshal`. */
export function wireOf(connection: Marshalling, type: string, address: bigint): Uint8Array {
  const wire = new Uint8Array(longestWire);
  const offset = new BigUint64Array(1);
  const rc = connection.tss.marshaller(type, 'Marshal')(address, wire, wire.byteLength, offset);
  if (rc !== 0) throw marshalError(rc, type);
  return wire.slice(0, Number(offset[0] ?? 0n));
}

const marshalError = (rc: number, type: string): TpmError => tpmError(rc, `${type}_Marshal`);

/** A TPM2B with room for `capacity` bytes. */
export function sizedBuffer(bytes: Uint8Array, capacity: number): Uint8Array {
  if (bytes.byteLength > capacity) {
    throw new RangeError(`${bytes.byteLength} bytes do not fit in a TPM structure of ${capacity}.`);
  }
  const target = new Uint8Array(2 + capacity);
  new DataView(target.buffer).setUint16(0, bytes.byteLength, true);
  target.set(bytes, 2);
  return target;
}

/** The content of a TPM2B at `address`. Not for secrets: this is a copy. */
export function sizedContent(connection: Marshalling, address: bigint): Uint8Array {
  return connection.tss.memory.read(address + 2n, sizedLength(connection, address));
}

export function sizedLength(connection: Marshalling, address: bigint): number {
  const [low = 0, high = 0] = connection.tss.memory.read(address, 2);
  return low | (high << 8);
}

/** A TPM2B_SENSITIVE_CREATE around `data`; the caller overwrites it after use. */
export function sensitiveCreate(data: Uint8Array | undefined): Uint8Array {
  const target = new Uint8Array(sensitiveCreateSize);
  if (data === undefined) return target;
  if (data.byteLength > 128) throw new RangeError('A TPM seals at most 128 bytes in one object.');
  new DataView(target.buffer).setUint16(sensitiveDataOffset, data.byteLength, true);
  target.set(data, sensitiveDataOffset + 2);
  return target;
}

/** A view of what a TPM2B_SENSITIVE_CREATE holds. */
export const sensitiveData = (sensitive: Uint8Array, byteLength: number): Uint8Array =>
  sensitive.subarray(sensitiveDataOffset + 2, sensitiveDataOffset + 2 + byteLength);

/** TPMT_SYM_DEF of a session: AES-128-CFB parameter encryption. */
export const sessionSymmetric: Uint8Array = littleEndian16(algorithm.aes, 128, algorithm.cfb);

/** TPMT_SIG_SCHEME: the key's own. */
export const ownScheme: Uint8Array = littleEndian16(algorithm.null, 0, 0);

/** TPMT_TK_HASHCHECK for a digest that the TPM did not make itself. */
export const noHashTicket: Uint8Array = (() => {
  const ticket = new Uint8Array(76);
  const view = new DataView(ticket.buffer);
  view.setUint16(0, 0x8024, true); // TPM_ST_HASHCHECK
  view.setUint32(4, 0x40000007, true); // TPM_RH_NULL
  return ticket;
})();

/** sizeof TPMT_TK_VERIFIED, which is handed back to the TPM as it came. */
export const ticketSize = 76;

function littleEndian16(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 2);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => {
    view.setUint16(index * 2, value, true);
  });
  return bytes;
}

export const pcrBankNames = ['sha1', 'sha256', 'sha384', 'sha512'] as const;
export type PcrBank = (typeof pcrBankNames)[number];

/** Wire bytes of a TPML_PCR_SELECTION of PCRs 0 to 23, the same in each bank. */
export function pcrSelection(banks: PcrBank | readonly PcrBank[], pcrs: readonly number[]): Uint8Array {
  const bitmap = new Uint8Array(3);
  for (const pcr of pcrs) {
    if (!Number.isInteger(pcr) || pcr < 0 || pcr > 23) throw new RangeError(`There is no PCR ${pcr}.`);
    bitmap[pcr >> 3] = (bitmap[pcr >> 3] ?? 0) | (1 << (pcr & 7));
  }
  const list = typeof banks === 'string' ? [banks] : banks;
  const writer = new Writer().u32(list.length);
  for (const bank of list) writer.u16(algorithm[bank]).u8(bitmap.byteLength).bytes(bitmap);
  return writer.done();
}

/** As the structure that ESYS takes. */
export function pcrSelectionStructure(
  connection: Marshalling,
  banks: PcrBank | readonly PcrBank[],
  pcrs: readonly number[],
): Uint8Array {
  return structure(connection, 'TPML_PCR_SELECTION', pcrSelection(banks, pcrs));
}
