// `stream`: random bytes from the running node, or from a pool of this process where no node runs.

import { tmpdir } from 'node:os';
import { streamRandom, writeAll } from '../entropy/outputs/stream.ts';
import { SecretArena } from '../host/arena.ts';
import { zeroizedFailure } from '../host/failure.ts';
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
  using arena = SecretArena.allocate();
  await using pool = await startPool(config, arena, tmpdir());
  return await streamRandom((out) => pool.read(out), bytes, fd);
}

async function relay(path: string, bytes: number | null, fd: number): Promise<number> {
  const { first, socket } = await askNodeForBytes(path, 'stream', { bytes });
  let written = 0;
  try {
    if (!(await writeAll(first, fd))) return written;
    written += first.length;
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      if (!(await writeAll(chunk, fd))) return written;
      written += chunk.length;
    }
  } finally {
    socket.destroy();
  }
  return written;
}
