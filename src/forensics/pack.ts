// Packs a directory into the archive of a bundle: ustar in gzip, the same bytes for the same inputs (sorted, fixed owner,
// mode and time; POSIX.1-2024 pax, ustar interchange; RFC 1952 without name and time).
import { createHash } from 'node:crypto';
import { createWriteStream, renameSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { Header } from 'tar';
import { syncDirectory } from '../host/durable.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { encrypted } from './encryption.ts';
import { encodeManifest, type Manifest, manifestPath, sha256 } from './format.ts';

export interface Packed {
  /** Of the archive, in hex; before it was encrypted. */
  readonly sha256: string;
  /** Bytes of the file. */
  readonly size: number;
  /** Of `manifest.json`, in hex. */
  readonly manifestSha256: string;
}

/**
 * Writes `manifest.json` into `directory`, then the archive of it and of the files that the manifest lists to `outPath`:
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
    writeFileSync(join(directory, manifestPath), encoded, { mode: 0o600 });
    rmSync(beside, { force: true });
    const archived = await writeArchive(directory, manifest, beside, recipients);
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

async function writeArchive(
  directory: string,
  manifest: Manifest,
  path: string,
  recipients: readonly string[],
) {
  const members = [manifestPath, ...manifest.files.map((file) => file.path).sort()];
  const hash = createHash('sha256');
  let size = 0;
  await pipeline(
    tarStream(directory, members),
    createGzip({ level: 6 }),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        yield chunk;
      }
    },
    async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of recipients.length === 0 ? chunks : encrypted(recipients, chunks)) {
        size += chunk.length;
        yield chunk;
      }
    },
    createWriteStream(path, { flags: 'wx', mode: 0o600 }),
  );
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { sha256: hash.digest('hex'), size };
}

/** The members one after another, each read into buffers of its own: what is handed on may still wait to be compressed. */
async function* tarStream(directory: string, members: readonly string[]): AsyncGenerator<Buffer> {
  for (const path of members) {
    await using file = await open(join(directory, path), 'r');
    const { size } = await file.stat();
    yield headerOf(path, size);
    let left = size;
    while (left > 0) {
      const buffer = Buffer.allocUnsafeSlow(Math.min(left, readBytes));
      const { bytesRead } = await file.read(buffer, 0, buffer.length);
      if (bytesRead === 0) throw new Error(`${path} became shorter while it was packed`);
      left -= bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
    yield Buffer.alloc((block - (size % block)) % block);
  }
  yield Buffer.alloc(2 * block);
}

const block = 512;
const readBytes = 1 << 17;

function headerOf(path: string, size: number): Buffer {
  const header = Buffer.alloc(block);
  new Header({ path, size, mode: 0o644, type: 'File', mtime: new Date(0) }).encode(header, 0);
  return header;
}
