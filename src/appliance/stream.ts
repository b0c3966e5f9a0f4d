// `stream`: random bytes from the running node, or from a pool of this process where no node runs.

import { tmpdir } from 'node:os';
import { streamRandom, writeAll } from '../entropy/outputs/stream.ts';
import { SecretArena } from '../host/arena.ts';
import { zeroizedFailure } from '../host/failure.ts';
import { hardenProcess } from '../host/hardening.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import type { Config } from './config.ts';
import { askNodeForBytes, isRunning } from './control.ts';
import { stateLayout } from './node-record.ts';
import { startPool } from './pool.ts';

/**
 * Writes `bytes` (null: without end) to a descriptor and returns how many were taken.
 * @throws Failure `zeroized` (status 4) on a zeroized node, also in the middle; `entropy-unhealthy`.
 */
export async function streamTo(config: Config, bytes: number | null, fd: number): Promise<number> {
  const layout = stateLayout(config.node.state_dir);
  const lifecycle = new Lifecycle(layout.directory);
  const requireUnzeroized = (): void => {
    if (lifecycle.read().state === 'zeroized') throw zeroizedFailure('Random output');
  };
  requireUnzeroized();
  if (await isRunning(layout.control)) {
    const written = await relay(layout.control, bytes, fd);
    if (written < (bytes ?? Number.POSITIVE_INFINITY)) requireUnzeroized();
    return written;
  }
  hardenProcess();
  using arena = SecretArena.allocate();
  await using pool = await startPool(config, arena, { fallbackDirectory: tmpdir() });
  return await streamRandom((out) => pool.read(out), bytes, fd);
}

async function relay(path: string, bytes: number | null, fd: number): Promise<number> {
  const { first, socket } = await askNodeForBytes(path, 'stream', { bytes });
  const wanted = bytes ?? Number.POSITIVE_INFINITY;
  let written = 0;
  /** False when the reader has gone. */
  const pass = async (chunk: Buffer): Promise<boolean> => {
    const part = chunk.subarray(0, wanted - written);
    const taken = await writeAll(part, fd);
    if (taken) written += part.length;
    return taken;
  };
  try {
    if (!(await pass(first))) return written;
    for await (const chunk of socket as AsyncIterable<Buffer>) if (!(await pass(chunk))) return written;
  } catch (error) {
    // Cut off in the middle: whoever asked looks whether the node has been zeroized.
    if (!isReset(error)) throw error;
  } finally {
    socket.destroy();
  }
  return written;
}

const isReset = (error: unknown): boolean =>
  ['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes((error as NodeJS.ErrnoException).code ?? '');
