// Reads the archive of a bundle, and nothing that is not one: the strict inverse of pack.ts. A member is a regular file with
// a plain relative name; every byte of the tar is accounted for (POSIX.1-2024, ustar interchange format; RFC 1952).
import { createHash, type Hash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { crc32, createInflateRaw } from 'node:zlib';
import { Failure, reasonOf } from '../host/failure.ts';
import { isMemberPath } from './format.ts';

export interface ArchiveLimits {
  /** Bytes of the compressed archive. */
  readonly archiveBytes: number;
  /** Bytes of all members together, uncompressed. */
  readonly contentBytes: number;
  /** Number of members. */
  readonly members: number;
  /** Uncompressed by compressed bytes, looked at beyond the first MiB. */
  readonly ratio: number;
  /** Bytes of members kept in memory (those that `keep` chose), together. */
  readonly keptBytes: number;
}

export interface ArchiveMember {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
  /** The content, where `keep` chose it. */
  readonly bytes: Uint8Array | undefined;
}

export interface ArchiveContent {
  /** In the order of the archive. */
  readonly members: readonly ArchiveMember[];
}

const block = 512;
/** Bytes that come out of the inflater at once: with few, a large archive takes its time going to and fro. */
const chunkSize = 1 << 18;
/** RFC 1952: deflate, no flags, no time, no extra flags, made on Unix. */
const gzipHeader = Buffer.from('1f8b0800000000000003', 'hex');
/** RFC 1952: CRC-32 and size of what is in it. */
const gzipTrailerBytes = 8;
const followed = 'something follows its end';

/** What takes a member's content, piece by piece, or whether it is kept in memory: also only where it fits in there. */
type Keeping = boolean | 'where-it-fits' | ((chunk: Uint8Array) => void);

/**
 * Reads to the end. Members that `keep` does not choose are hashed and dropped.
 * @throws Failure `archive-invalid` with the first reason.
 */
export async function readArchive(
  archive: Uint8Array | AsyncIterable<Uint8Array>,
  limits: ArchiveLimits,
  keep: (path: string) => Keeping,
): Promise<ArchiveContent> {
  const reader = new TarReader(limits, keep);
  const source = archive instanceof Uint8Array ? slices(archive) : archive;
  // Not gunzip, which would go on with a second member, whatever its header holds.
  const inflate = createInflateRaw({ chunkSize });
  const seen = { bytes: 0, tail: Buffer.alloc(0) };
  let plain = 0;
  let sum = 0;
  try {
    await pipeline(
      counted(source, limits, seen),
      inflate,
      async (chunks: AsyncIterable<Buffer>): Promise<void> => {
        for await (const chunk of chunks) {
          plain += chunk.length;
          sum = crc32(chunk, sum);
          if (plain > 1 << 20 && plain > limits.ratio * seen.bytes) {
            throw beyond(`it expands more than ${limits.ratio} times`, 'ratio');
          }
          reader.take(chunk);
        }
      },
    );
  } catch (error) {
    if (error instanceof Failure) throw error;
    const early = error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE';
    throw invalid(early ? followed : `it is not intact gzip (${reasonOf(error)})`);
  }
  if (inflate.bytesWritten !== seen.bytes - gzipHeader.length - gzipTrailerBytes) throw invalid(followed);
  if (seen.tail.readUInt32LE(0) !== sum || seen.tail.readUInt32LE(4) !== plain % 2 ** 32) {
    throw invalid('it is not intact gzip (its checksum or size is wrong)');
  }
  return { members: reader.end() };
}

async function* slices(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
}

/** Passes the deflated bytes on, having looked at their number and at the gzip header; the trailer stays in `seen.tail`. */
async function* counted(
  source: AsyncIterable<Uint8Array>,
  limits: ArchiveLimits,
  seen: { bytes: number; tail: Buffer },
): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    for (let at = seen.bytes; at < gzipHeader.length && at - seen.bytes < chunk.length; at += 1) {
      if (chunk[at - seen.bytes] !== gzipHeader[at]) throw invalid('its gzip header is not that of a bundle');
    }
    const deflated = chunk.subarray(Math.max(0, gzipHeader.length - seen.bytes));
    seen.bytes += chunk.length;
    if (seen.bytes > limits.archiveBytes)
      throw beyond(`it is larger than ${limits.archiveBytes} bytes`, 'archive_bytes');
    const held = Buffer.concat([seen.tail, deflated]);
    const passed = Math.max(0, held.length - gzipTrailerBytes);
    seen.tail = held.subarray(passed);
    if (passed > 0) yield held.subarray(0, passed);
  }
  if (seen.bytes < gzipHeader.length + gzipTrailerBytes) throw invalid('it is empty or cut off');
}

class TarReader {
  readonly #limits: ArchiveLimits;
  readonly #keep: (path: string) => Keeping;
  readonly #members: ArchiveMember[] = [];
  readonly #names = new Set<string>();
  #header = Buffer.alloc(0);
  #current:
    | {
        path: string;
        size: number;
        hash: Hash;
        kept: Buffer[] | undefined;
        sink: ((chunk: Uint8Array) => void) | undefined;
      }
    | undefined;
  /** Bytes of content, then of padding, that the current member still lacks. */
  #content = 0;
  #padding = 0;
  #total = 0;
  #kept = 0;
  #zeroBlocks = 0;

  constructor(limits: ArchiveLimits, keep: (path: string) => Keeping) {
    this.#limits = limits;
    this.#keep = keep;
  }

  take(chunk: Buffer): void {
    for (let rest = chunk; rest.length > 0; ) {
      const wanted = this.#content || this.#padding || block - this.#header.length;
      const part = rest.subarray(0, wanted);
      rest = rest.subarray(part.length);
      if (this.#content > 0) this.#takeContent(part);
      else if (this.#padding > 0) this.#takePadding(part);
      else this.#takeHeader(part);
    }
  }

  end(): readonly ArchiveMember[] {
    if (this.#content + this.#padding + this.#header.length > 0 || this.#zeroBlocks !== 2) {
      throw invalid('its tar is cut off');
    }
    return this.#members;
  }

  #takeContent(part: Buffer): void {
    this.#current?.hash.update(part);
    this.#current?.kept?.push(Buffer.from(part));
    this.#current?.sink?.(part);
    this.#content -= part.length;
    if (this.#content === 0) this.#finish();
  }

  #takePadding(part: Buffer): void {
    if (part.some((byte) => byte !== 0)) throw invalid('its padding holds data');
    this.#padding -= part.length;
  }

  #takeHeader(part: Buffer): void {
    this.#header = Buffer.concat([this.#header, part]);
    if (this.#header.length < block) return;
    const header = this.#header;
    this.#header = Buffer.alloc(0);
    if (header.every((byte) => byte === 0)) {
      this.#zeroBlocks += 1;
      if (this.#zeroBlocks > 2) throw invalid(followed);
      return;
    }
    if (this.#zeroBlocks > 0) throw invalid(followed);
    this.#begin(header);
  }

  #begin(header: Buffer): void {
    const { path, size } = readHeader(header);
    const folded = path.toLowerCase();
    if (this.#names.has(folded)) throw invalid(`it has the name ${JSON.stringify(path)} twice`);
    if (this.#clashes(folded)) throw invalid(`${JSON.stringify(path)} is both a file and a folder`);
    this.#names.add(folded);
    this.#total += size;
    if (this.#names.size > this.#limits.members) {
      throw beyond(`it has over ${this.#limits.members} members`, 'members');
    }
    if (this.#total > this.#limits.contentBytes) {
      throw beyond(`its content is larger than ${this.#limits.contentBytes} bytes`, 'content_bytes');
    }
    const keeping = this.#keep(path);
    const fits = this.#kept + size <= this.#limits.keptBytes;
    if (keeping === true && !fits)
      throw beyond(`${JSON.stringify(path)} is too large to look at`, 'kept_bytes');
    const kept = keeping === true || (keeping === 'where-it-fits' && fits) ? [] : undefined;
    const sink = typeof keeping === 'function' ? keeping : undefined;
    if (kept !== undefined) this.#kept += size;
    this.#current = { path, size, hash: createHash('sha256'), kept, sink };
    this.#content = size;
    this.#padding = (block - (size % block)) % block;
    if (size === 0) this.#finish();
  }

  #clashes(folded: string): boolean {
    const parents = folded.split('/').slice(0, -1);
    if (parents.some((_, index) => this.#names.has(parents.slice(0, index + 1).join('/')))) return true;
    return this.#names.values().some((name) => name.startsWith(`${folded}/`));
  }

  #finish(): void {
    if (this.#current === undefined) return;
    const { path, size, hash, kept } = this.#current;
    const bytes = kept === undefined ? undefined : Buffer.concat(kept);
    this.#members.push({ path, size, sha256: hash.digest('hex'), bytes });
    this.#current = undefined;
  }
}

/** One ustar header as pack.ts writes it. Fields it leaves zero must be zero, so nothing hides in them. */
function readHeader(header: Buffer): { path: string; size: number } {
  const field = (from: number, length: number) => header.subarray(from, from + length);
  const text = (from: number, length: number) => field(from, length).toString('latin1').replace(/\0+$/, '');
  const octal = (from: number, length: number) => {
    const digits = text(from, length).trim();
    if (!/^[0-7]+$/.test(digits)) throw invalid('a header has a number that is none');
    return Number.parseInt(digits, 8);
  };
  const sum = header.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  if (octal(148, 8) !== sum) throw invalid('a header has a wrong checksum');
  const path = text(0, 100);
  const name = JSON.stringify(path.slice(0, 99));
  if (text(257, 8) !== 'ustar\u000000') throw invalid(`${name} is not in ustar format`);
  const type = text(156, 1);
  if (type !== '0') throw invalid(`${name} is not a regular file (${typeNames[type] ?? `type ${type}`})`);
  if (header[345] !== 0 || !isMemberPath(path)) throw invalid(`${name} is not a plain relative name`);
  if (!unused.every(([from, to]) => header.subarray(from, to).every((byte) => byte === 0))) {
    throw invalid(`${name} has data in fields of its header that a bundle leaves empty`);
  }
  if (octal(100, 8) !== 0o644 || octal(136, 12) !== 0) throw invalid(`${name} has another mode or time`);
  const size = octal(124, 12);
  return { path, size };
}

/** Owner, link target, owner's names, and the prefix of the name with what follows it. */
const unused = [
  [108, 124],
  [157, 257],
  [265, 329],
  [345, 512],
] as const;

const typeNames: Record<string, string> = {
  '1': 'hard link',
  '2': 'symbolic link',
  '3': 'character device',
  '4': 'block device',
  '5': 'folder',
  '6': 'FIFO',
  x: 'extended header',
  g: 'global extended header',
  L: 'long name',
};

/** Nothing need be wrong with it: whoever made it may have collected more than the relying party takes in. */
const beyond = (reason: string, limit: string): Failure =>
  invalid(`${reason}, the limit \`${limit}\` of the policy`);

function invalid(reason: string): Failure {
  return new Failure('archive-invalid', `The archive is not valid: ${reason}.`, {
    remedy: 'Fetch the archive again from where it was uploaded; if it stays so, treat it as tampered with.',
  });
}
