// SHA-256 of files, a piece at a time: Node's binary alone has a hundred megabytes, and the thread has more to do.
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';

const pieceBytes = 1 << 19;

/** In hex, by path; of a file that cannot be read there is none. */
export async function digestsOf(paths: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const piece = Buffer.allocUnsafeSlow(pieceBytes);
  const digests = new Map<string, string>();
  for (const path of paths) {
    const digest = await digestOf(path, piece).catch(() => undefined);
    if (digest !== undefined) digests.set(path, digest);
  }
  return digests;
}

async function digestOf(path: string, piece: Buffer): Promise<string> {
  await using file = await open(path, 'r');
  const hash = createHash('sha256');
  for (;;) {
    const { bytesRead } = await file.read(piece, 0, piece.length, null);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(piece.subarray(0, bytesRead));
  }
}
