// Random bytes to a file descriptor, as fast as it takes them: what `stream` prints to a pipe or a file.
import { writeSync } from 'node:fs';

const blockLength = 256 << 10;
/** How long the event loop (signals, the control socket) may have to wait. */
const turnMilliseconds = 20;
const fullPipeMilliseconds = 1;

/**
 * Writes `bytes` of output (null: without end) from `read` to `fd`, and returns how many were taken: fewer than asked
 * when the reader has gone (EPIPE), which is no failure.
 * @throws what `read` throws (a zeroize ends the stream), or the error of the write.
 */
export async function streamRandom(
  read: (out: Uint8Array) => void,
  bytes: number | null,
  fd: number,
): Promise<number> {
  const block = new Uint8Array(blockLength);
  const wanted = bytes ?? Number.POSITIVE_INFINITY;
  let written = 0;
  let turnEnds = performance.now() + turnMilliseconds;
  try {
    while (written < wanted) {
      const part = wanted - written < blockLength ? block.subarray(0, wanted - written) : block;
      read(part);
      for (let done = 0; done < part.length; ) {
        const taken = tryWrite(fd, part, done);
        if (taken === 'gone') return written + done;
        done += taken;
        if (taken > 0 && performance.now() < turnEnds) continue;
        await new Promise((resolve) =>
          taken === 0 ? setTimeout(resolve, fullPipeMilliseconds) : setImmediate(resolve),
        );
        turnEnds = performance.now() + turnMilliseconds;
      }
      written += part.length;
    }
    return written;
  } finally {
    block.fill(0);
  }
}

/** Writes all of `bytes`, waiting where the descriptor is full; false when the reader has gone. */
export async function writeAll(bytes: Uint8Array, fd: number): Promise<boolean> {
  for (let done = 0; done < bytes.length; ) {
    const taken = tryWrite(fd, bytes, done);
    if (taken === 'gone') return false;
    done += taken;
    if (taken === 0) await new Promise((resolve) => setTimeout(resolve, fullPipeMilliseconds));
  }
  return true;
}

/** Bytes taken, 0 where a non-blocking pipe is full. */
function tryWrite(fd: number, bytes: Uint8Array, from: number): number | 'gone' {
  try {
    return writeSync(fd, bytes, from);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EAGAIN') return 0;
    if (code === 'EPIPE') return 'gone';
    throw error;
  }
}
