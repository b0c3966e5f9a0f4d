// Looks for copies of a secret in all writable memory of this process, outside the arena where it belongs.
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import type { SecretArena, SecretBuffer } from '../../src/host/arena.ts';

const mask = 0x5a;

/** What to look for, in a form that is no copy itself. */
export const masked = (secret: SecretBuffer): Uint8Array =>
  Uint8Array.from(secret.bytes, (byte) => byte ^ mask);

export const unmasked = (needle: Uint8Array): Uint8Array => Uint8Array.from(needle, (byte) => byte ^ mask);

/** Counts copies, comparing byte by byte with the mask so that the search makes none itself. */
export function copiesOutside(arena: SecretArena, masked: Uint8Array): number {
  const { address, byteLength } = arena.region;
  const chunk = Buffer.alloc(4 << 20);
  const memory = openSync('/proc/self/mem', 'r');
  let found = 0;
  for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
    if (from === undefined || to === undefined) continue;
    const end = BigInt(`0x${to}`);
    for (let at = BigInt(`0x${from}`); at < end; at += BigInt(chunk.length - masked.length)) {
      const length = readMemory(memory, chunk, at, end);
      for (const offset of matches(chunk.subarray(0, length), masked)) {
        const place = at + BigInt(offset);
        if (place < address || place >= address + BigInt(byteLength)) found++;
      }
      chunk.fill(0);
    }
  }
  closeSync(memory);
  return found;
}

function readMemory(memory: number, chunk: Buffer, at: bigint, end: bigint): number {
  const left = end - at;
  try {
    return readSync(memory, chunk, 0, left < BigInt(chunk.length) ? Number(left) : chunk.length, at);
  } catch {
    return 0; // Not readable: a guard page or a device.
  }
}

function matches(chunk: Buffer, masked: Uint8Array): number[] {
  const offsets: number[] = [];
  const first = (masked[0] ?? 0) ^ mask;
  for (let at = chunk.indexOf(first); at !== -1; at = chunk.indexOf(first, at + 1)) {
    if (masked.every((byte, index) => chunk[at + index] === (byte ^ mask))) {
      offsets.push(at);
      chunk.fill(0, at, at + masked.length);
    }
  }
  return offsets;
}
