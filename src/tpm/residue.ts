// What tpm2-tss leaves behind of a secret: its ESYS and SYS contexts keep the last command and answer in clear, and a
// buffer on the native stack keeps the decrypted parameter. Found by content and overwritten before the call returns.
import { readFileSync } from 'node:fs';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { zeroizedFailure } from '../host/failure.ts';
import { madvise } from '../host/libc.ts';
import type { Connection } from './connection.ts';

/** Far more than the frames between an ESYS call and its TCTI take. */
const stackReach = 64n << 10n;
const pageSize = 4096n;
/** madvise(2): fault the pages in as a write would, or fail. */
const MADV_POPULATE_WRITE = 23;

/** Bytes of the C library's, or of this program's own where `address` is a buffer. */
interface NativeBytes {
  readonly address: bigint | Uint8Array;
  readonly byteLength: number;
}

interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

/**
 * Overwrites every copy of `secret` in the library's two contexts and on the stack its calls ran on. What it is compared with
 * lies outside the arena, which a zeroize may overwrite at any instant: zeros would find nothing.
 */
export function cleanseCopies(connection: Connection, secret: NativeBytes): void {
  if (secret.byteLength === 0) return; // It would be found everywhere.
  const { tss, esys } = connection;
  const sys = new BigUint64Array(1);
  tss.getSysContext(esys, sys);
  for (const block of [esys, sys[0] ?? 0n]) {
    cleanse(connection, { start: block, end: block + BigInt(tss.memory.usableSize(block)) }, secret);
  }
  for (const range of stackAround(connection)) cleanse(connection, range, secret);
}

/**
 * Takes a secret out of a result of the library into the arena, and overwrites the copies that the library made. Where the arena
 * is zeroized, before that or meanwhile, the copies are overwritten all the same. The result itself goes with the command.
 * @throws Failure `zeroized`
 */
export function takeOver(
  connection: Connection,
  result: NativeBytes & { readonly address: bigint },
  into: SecretArena,
  label: string,
): SecretBuffer {
  cleanseCopies(connection, result);
  const secret = into.take(result.byteLength, label);
  connection.tss.memory.move(secret.address, result.address, result.byteLength);
  if (!into.zeroized) return secret;
  secret[Symbol.dispose]();
  throw zeroizedFailure(`The secret "${label}"`);
}

function cleanse({ tss: { memory } }: Connection, { start, end }: Range, secret: NativeBytes): void {
  const length = BigInt(secret.byteLength);
  // Onwards from each copy: one of zeros would be found again.
  for (let from = start; from + length <= end; ) {
    const copy = memory.find(from, Number(end - from), secret.address, secret.byteLength);
    if (copy === 0n) return;
    memory.cleanse(copy, secret.byteLength);
    from = copy + length;
  }
}

/** The part of the stack near the last ESYS call, within its mapping. */
function stackAround(connection: Connection): Range[] {
  const address = connection.stackAddress;
  const known = stacks.get(connection);
  if (known !== undefined && isAllAround(known, address)) return [known];
  const found = mappings()
    .filter(({ start, end }) => start <= address && address < end)
    .map(({ start, end }) => ({
      start: start > address - stackReach ? start : address - stackReach,
      end: end < address + stackReach ? end : address + stackReach,
    }));
  for (const range of found) stacks.set(connection, range);
  return found;
}

/** Where the stack of each connection was found: to read the table of mappings takes longer than all the rest. */
const stacks = new WeakMap<Connection, Range>();

/**
 * Whether a range found earlier is still what can be searched around a call: it reaches down as far as wanted (upwards a stack
 * does not grow), and all of it can be written to, says the kernel. One before 5.14 does not, and is asked for the table.
 */
function isAllAround({ start, end }: Range, address: bigint): boolean {
  const firstPage = start - (start % pageSize);
  const length = Number(end - firstPage);
  return start === address - stackReach && madvise(firstPage, length, MADV_POPULATE_WRITE) === 0;
}

/** What of this process's memory may be written to. */
const mappings = (): Range[] =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .map((line) => /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line))
    .map((match) => ({ start: BigInt(`0x${match?.[1] ?? 0}`), end: BigInt(`0x${match?.[2] ?? 0}`) }));
