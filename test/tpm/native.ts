// Structures of tpm2-tss in native memory, written and read by its marshalling library: the referee of ours.
import { expect } from 'vitest';
import { loadTss } from '../../src/tpm/library.ts';
import { wireOf } from '../../src/tpm/structs.ts';

export const tss = loadTss();
const { memory } = tss;
/** More than any structure takes. */
const room = 8192;
const filling = 0xa5;

/** Runs `work` with memory that holds `bytes`, and a filling behind them. */
function inMemory<T>(bytes: Uint8Array, work: (address: bigint) => T): T {
  const address = memory.allocate(room);
  try {
    const filled = new Uint8Array(room).fill(filling);
    filled.set(bytes);
    memory.store(address, filled, room);
    return work(address);
  } finally {
    memory.free(address);
  }
}

/** The wire bytes of a C structure. */
export const marshalled = (type: string, bytes: Uint8Array): Uint8Array =>
  inMemory(bytes, (address) => wireOf({ tss }, type, address));

/** From the wire into the library's structure and back; also how many bytes of the structure were written to. */
export function thereAndBack(type: string, wire: Uint8Array): { wire: Uint8Array; touched: number } {
  const noSize = new Uint8Array(2); // Into a TPM2B that seems full nothing is read.
  return inMemory(noSize, (address) => {
    const offset = new BigUint64Array(1);
    const unmarshal = tss.marshaller(type, 'Unmarshal');
    expect([type, unmarshal(wire, wire.byteLength, offset, address)]).toEqual([type, 0]);
    expect(offset[0]).toBe(BigInt(wire.byteLength));
    const touched = memory.read(address, room).findLastIndex((byte) => byte !== filling) + 1;
    return { wire: wireOf({ tss }, type, address), touched };
  });
}
