// The checksums that S3 knows (Amazon S3 user guide, "Checking object integrity"), in base64 of big-endian bytes.
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

const algorithms = {
  crc32: (bytes: Uint8Array) => word(crc32(bytes)),
  crc32c: (bytes: Uint8Array) => word(crc32c(bytes)),
  crc64nvme: crc64nvme,
  sha1: (bytes: Uint8Array) => createHash('sha1').update(bytes).digest(),
  sha256: (bytes: Uint8Array) => createHash('sha256').update(bytes).digest(),
} as const;

export type ChecksumAlgorithm = keyof typeof algorithms;
export const checksumAlgorithms = Object.keys(algorithms) as ChecksumAlgorithm[];

export const isChecksumAlgorithm = (name: string): name is ChecksumAlgorithm =>
  Object.hasOwn(algorithms, name);

export const rawChecksum = (algorithm: ChecksumAlgorithm, bytes: Uint8Array): Buffer =>
  Buffer.from(algorithms[algorithm](bytes));

export const checksum = (algorithm: ChecksumAlgorithm, bytes: Uint8Array): string =>
  rawChecksum(algorithm, bytes).toString('base64');

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

const crc32cTable = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

/** CRC-32C (Castagnoli), reflected. */
function crc32c(bytes: Uint8Array): number {
  let value = 0xffff_ffff;
  for (const byte of bytes) value = (crc32cTable[(value ^ byte) & 0xff] ?? 0) ^ (value >>> 8);
  return ~value;
}

const crc64Table = Array.from({ length: 256 }, (_, index) => {
  let value = BigInt(index);
  for (let bit = 0; bit < 8; bit += 1)
    value = value & 1n ? (value >> 1n) ^ 0x9a6c_9329_ac4b_c9b5n : value >> 1n;
  return value;
});
const crc64High = Uint32Array.from(crc64Table, (value) => Number(value >> 32n));
const crc64Low = Uint32Array.from(crc64Table, (value) => Number(value & 0xffff_ffffn));

/** CRC-64/NVME, reflected, in two halves: BigInt would take seconds for a multipart upload. */
function crc64nvme(bytes: Uint8Array): Buffer {
  let high = 0xffff_ffff;
  let low = 0xffff_ffff;
  for (const byte of bytes) {
    const index = (low ^ byte) & 0xff;
    low = ((low >>> 8) | (high << 24)) ^ (crc64Low[index] ?? 0);
    high = (high >>> 8) ^ (crc64High[index] ?? 0);
  }
  return Buffer.concat([word(~high), word(~low)]);
}
