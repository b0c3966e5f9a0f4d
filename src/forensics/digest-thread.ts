// The thread of digests.ts.
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

const block = Buffer.allocUnsafe(1 << 20);

/** Undefined of a file that cannot be read. */
function digestOf(path: string): string | undefined {
  try {
    const fd = openSync(path, 'r');
    try {
      const hash = createHash('sha256');
      for (let size = readSync(fd, block); size > 0; size = readSync(fd, block))
        hash.update(block.subarray(0, size));
      return hash.digest('hex');
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}

parentPort?.postMessage((workerData as readonly string[]).map(digestOf));
