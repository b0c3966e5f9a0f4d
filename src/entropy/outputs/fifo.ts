// Random bytes at a path: a FIFO that is kept full for whoever reads it. It is open for reading here as well, so that the coming and
// going of readers is nothing to it, and so that what nobody has read can be taken back when output must stop.
import { closeSync, constants, lstatSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { exitStatus, Failure } from '../../host/failure.ts';
import { makeFifo, setPipeSize } from '../../host/fifo.ts';

const blockLength = 64 << 10;
const fullMilliseconds = 2;
/** How often a FIFO that nobody reads looks whether what is in it may still be given out. */
const watchMilliseconds = 50;

export interface FifoOptions {
  /** Bytes that the kernel holds ready, rounded up by it to a power of two; 64 KiB unless told. */
  readonly bufferSize?: number | undefined;
  readonly signal: AbortSignal;
  /** Called when the FIFO can be read. */
  readonly onReady?: () => void;
}

/**
 * Serves until the signal, then removes the FIFO. Returns the bytes written.
 * @throws what `read` throws; what was still in the FIFO is then gone. Failure `path-taken`, `fifo-failed`.
 */
export async function serveFifo(
  path: string,
  read: (out: Uint8Array) => void,
  { bufferSize, signal, onReady }: FifoOptions,
): Promise<number> {
  requireFree(path);
  makeFifo(path);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const block = new Uint8Array(Math.min(blockLength, bufferSize ?? blockLength));
  const one = new Uint8Array(1);
  let written = 0;
  let watched = 0;
  try {
    if (bufferSize !== undefined) setPipeSize(fd, bufferSize);
    onReady?.();
    while (!signal.aborted) {
      read(block);
      for (let done = 0; done < block.length && !signal.aborted; ) {
        const taken = writeNow(fd, block, done);
        done += taken;
        written += taken;
        if (taken > 0) continue;
        await sleep(fullMilliseconds);
        if (performance.now() < watched) continue;
        watched = performance.now() + watchMilliseconds;
        read(one);
      }
      await sleep(0);
    }
    return written;
  } finally {
    takeBack(fd, block);
    block.fill(0);
    closeSync(fd);
    rmSync(path, { force: true });
  }
}

function requireFree(path: string): void {
  let isFifo: boolean;
  try {
    isFifo = lstatSync(path).isFIFO();
  } catch {
    return;
  }
  if (isFifo) {
    rmSync(path); // Of a run that was killed.
    return;
  }
  throw new Failure('path-taken', `${path} exists and is no FIFO.`, {
    kept: 'It was not touched.',
    remedy: 'Choose another path, or remove it.',
    status: exitStatus.usage,
  });
}

function writeNow(fd: number, block: Uint8Array, from: number): number {
  try {
    return writeSync(fd, block, from);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}

/** Empties the FIFO. */
function takeBack(fd: number, into: Uint8Array): void {
  try {
    while (readSync(fd, into, 0, into.length, null) > 0);
  } catch {
    // EAGAIN: it is empty.
  }
}
