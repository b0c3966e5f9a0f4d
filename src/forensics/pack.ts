// Packs a directory into the archive of a bundle: ustar in gzip, the same bytes for the same inputs (sorted, fixed owner,
// mode and time; POSIX.1-2024 pax, ustar interchange; RFC 1952 without name and time). What was collected is not deflated again.
import { createHash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, openSync, readSync, renameSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Header } from 'tar/header';
import { chunksOf } from '../host/chunks.ts';
import { syncDirectory } from '../host/durable.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { Checksum, deflatePiece, gzipEndBytes, gzipHeader, lengthOf, PieceDeflater } from './deflated.ts';
import { encrypted } from './encryption.ts';
import { encodeManifest, type Manifest, manifestPath, sha256 } from './format.ts';
import { collectedPath } from './member-file.ts';

export interface Packed {
  /** Of the archive, in hex; before it was encrypted. */
  readonly sha256: string;
  /** Bytes of the file. */
  readonly size: number;
  /** Of the file: of the archive, or of what it was encrypted to. */
  readonly fileSha256: string;
  /** Of `manifest.json`, in hex. */
  readonly manifestSha256: string;
}

/**
 * Writes the archive of `manifest.json` and of the files that the manifest lists, which lie in `directory`, to `outPath`:
 * streamed, synced, and there under its name only once it is whole. With recipients it is encrypted to them before any of it
 * reaches the disk.
 * @throws Failure `pack-failed`; the collected files stay in `directory`.
 */
export async function packBundle(
  directory: string,
  manifest: Manifest,
  outPath: string,
  recipients: readonly string[] = [],
): Promise<Packed> {
  const encoded = encodeManifest(manifest);
  const beside = `${outPath}.${process.pid}.new`;
  try {
    rmSync(beside, { force: true });
    const archived = await writeArchive(new Archive(directory, manifest, encoded), beside, recipients);
    renameSync(beside, outPath);
    syncDirectory(dirname(outPath));
    return { ...archived, manifestSha256: sha256(encoded) };
  } catch (cause) {
    rmSync(beside, { force: true });
    throw new Failure('pack-failed', `The bundle could not be packed: ${reasonOf(cause)}.`, {
      kept: `What was collected is in ${directory}, unless bundles are to be encrypted: then it is removed.`,
      remedy: 'Make room or repair the directory, then collect again.',
      cause,
    });
  }
}

async function writeArchive(archive: Archive, path: string, recipients: readonly string[]) {
  const hash = createHash('sha256');
  async function* hashed(): AsyncGenerator<Uint8Array, void, void> {
    for await (const part of archive.parts()) {
      hash.update(part);
      yield part;
    }
  }
  const ofCipher = recipients.length === 0 ? undefined : createHash('sha256');
  let size = 0;
  await using file = await open(path, 'wx', 0o600);
  for await (const chunk of recipients.length === 0 ? hashed() : encrypted(recipients, hashed())) {
    ofCipher?.update(chunk);
    await file.writeFile(chunk);
    size += chunk.length;
  }
  await file.sync();
  const sha256 = hash.digest('hex');
  return { sha256, size, fileSha256: ofCipher?.digest('hex') ?? sha256 };
}

/**
 * The archive, in parts that need not be looked at again: what was collected lies there deflated. Headers and what fills the last block of
 * a member are pieces of their own. A part is good until the next is asked for.
 */
class Archive {
  readonly #directory: string;
  readonly #manifest: Manifest;
  readonly #encoded: Uint8Array;
  #sum = new Checksum();

  /** `encoded`: the manifest, as it goes into the archive. */
  constructor(directory: string, manifest: Manifest, encoded: Uint8Array) {
    this.#directory = directory;
    this.#manifest = manifest;
    this.#encoded = encoded;
  }

  async *parts(): AsyncGenerator<Uint8Array, void, void> {
    yield gzipHeader;
    const files = this.#manifest.files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
    yield this.#piece(Buffer.concat([headerOf(manifestPath, this.#encoded.length), this.#encoded]));
    let filling = fillingOf(this.#encoded.length);
    for (const { path, size } of files) filling = yield* this.#member(filling, path, size);
    yield this.#piece(Buffer.concat([filling, Buffer.alloc(2 * block)]));
    yield this.#sum.gzipEnd;
  }

  /** `size`: in the manifest. @returns what fills its last block. */
  async *#member(before: Buffer, path: string, size: number): AsyncGenerator<Uint8Array, Buffer, void> {
    const plain = join(this.#directory, path);
    const collected = collectedPath(this.#directory, path);
    const isPlain = existsSync(plain) || !existsSync(collected);
    const file = isPlain ? plain : collected;
    const { bytes, end } = lookAt(file);
    const length = isPlain ? bytes : lengthOf(end, size);
    if (length === undefined) throw new Error(`${path} is not as it was collected`);
    yield this.#piece(Buffer.concat([before, headerOf(path, length)]));
    if (isPlain) {
      yield* this.#deflated(chunksOf(openSync(file, 'r'), pieceBytes, { from: 0, to: bytes }));
    } else {
      this.#sum = this.#sum.withGzip(end, length);
      const deflate = { from: gzipHeader.length, to: bytes - end.length };
      yield* chunksOf(openSync(file, 'r'), pieceBytes, deflate);
    }
    return fillingOf(length);
  }

  async *#deflated(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    using deflater = new PieceDeflater();
    for await (const piece of pieces) {
      this.#sum = this.#sum.with(piece);
      yield await deflater.deflate(piece);
    }
  }

  #piece(plain: Uint8Array): Uint8Array {
    this.#sum = this.#sum.with(plain);
    return deflatePiece(plain);
  }
}

/** How long a file is, and how it ends, if it is a gzip. */
function lookAt(path: string): { readonly bytes: number; readonly end: Buffer } {
  const fd = openSync(path, 'r');
  try {
    const bytes = fstatSync(fd).size;
    const end = Buffer.alloc(gzipEndBytes);
    readSync(fd, end, 0, end.length, Math.max(0, bytes - end.length));
    return { bytes, end };
  } finally {
    closeSync(fd);
  }
}

const block = 512;
const pieceBytes = 1 << 19;

/** What fills the last block of so many bytes. */
const fillingOf = (length: number): Buffer => Buffer.alloc((block - (length % block)) % block);

function headerOf(path: string, size: number): Buffer {
  const header = Buffer.alloc(block);
  new Header({ path, size, mode: 0o644, type: 'File', mtime: new Date(0) }).encode(header, 0);
  return header;
}
