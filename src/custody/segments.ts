// Rotation: a log that has grown is moved aside whole, and the next file goes on with the next number and the hash of the last
// line. All files one after the other are one chain.
import { closeSync, existsSync, openSync, readdirSync, readSync, renameSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { chunksOf } from '../host/chunks.ts';
import { syncDirectory } from '../host/durable.ts';

/** `custody.jsonl` -> `custody-000000001234.jsonl`, after the number of its last record. */
function segmentName(path: string, last: number): string {
  return `${basename(path, '.jsonl')}-${String(last).padStart(12, '0')}.jsonl`;
}

/** Files that were moved aside, the oldest first. */
export function segmentsOf(path: string): string[] {
  if (!existsSync(dirname(path))) return [];
  const stem = basename(path, '.jsonl');
  return readdirSync(dirname(path))
    .filter((name) => name.startsWith(`${stem}-`) && /^-\d{12}\.jsonl$/.test(name.slice(stem.length)))
    .toSorted()
    .map((name) => join(dirname(path), name));
}

export function moveAside(path: string, last: number): string {
  const segment = join(dirname(path), segmentName(path, last));
  renameSync(path, segment);
  syncDirectory(dirname(path));
  return segment;
}

/** A file of the log, as it was when the log was opened for reading. */
export interface LogPart {
  /** As an operator sees it in the directory. */
  readonly name: string;
  /** Leads to it as long as the log is open, in each thread of this process. */
  readonly path: string;
  /** What stands behind these bytes was written later. */
  readonly size: number;
  /** Another one when somebody has written to the file, or put another in its place: inode, size, times of content and of inode. */
  readonly mark: string;
}

/** The files of the log at one moment: what is written, or moved aside, while they are read changes nothing of what is read. */
export class LogFiles implements Disposable {
  /** The oldest first. */
  readonly parts: readonly LogPart[];
  readonly #newest: number | undefined;

  constructor(path: string) {
    this.#newest = openIfThere(path);
    const held = this.#newest === undefined ? [] : [partAt(basename(path), heldPath(this.#newest))];
    const old = segmentsOf(path).map((segment) => partAt(basename(segment), segment));
    // One that is moved aside between the two looks would be there twice.
    this.parts = [...old.filter(({ inode }) => inode !== held[0]?.inode), ...held];
  }

  get size(): number {
    return sizeOf(this.parts);
  }

  [Symbol.dispose](): void {
    if (this.#newest !== undefined) closeSync(this.#newest);
  }
}

export const sizeOf = (parts: readonly LogPart[]): number => parts.reduce((sum, { size }) => sum + size, 0);

const pieceBytes = 1 << 20;

/** A part in pieces; each is good until the next is asked for. */
export function* bytesOf({ path, size }: LogPart): Iterable<Uint8Array> {
  const piece = Buffer.allocUnsafeSlow(Math.min(pieceBytes, Math.max(size, 1)));
  const fd = openSync(path, 'r');
  try {
    for (let at = 0; at < size; ) {
      const count = readSync(fd, piece, 0, Math.min(piece.length, size - at), at);
      if (count === 0) return; // Somebody has cut it meanwhile.
      yield piece.subarray(0, count);
      at += count;
    }
  } finally {
    closeSync(fd);
  }
}

/** The whole log, for who must not hold the thread up while it is read. */
export async function* streamLog(path: string): AsyncGenerator<Uint8Array, void, void> {
  using files = new LogFiles(path);
  for (const part of files.parts) {
    let left = part.size;
    for await (const piece of chunksOf(openSync(part.path, 'r'), pieceBytes)) {
      yield piece.subarray(0, left);
      left -= piece.length;
      if (left <= 0) break;
    }
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Of an open file, wherever its name leads now. */
const heldPath = (fd: number): string => `/proc/${process.pid}/fd/${fd}`;

function partAt(name: string, path: string): LogPart & { readonly inode: bigint } {
  const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
  const mark = [dev, ino, size, mtimeNs, ctimeNs].join(':');
  return { name, path, size: Number(size), mark, inode: ino };
}
