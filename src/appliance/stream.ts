// `stream`: random bytes from the running node, or from a pool of this process where no node runs.

import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { streamRandom, writeAll } from '../entropy/outputs/stream.ts';
import { SecretArena } from '../host/arena.ts';
import { Failure, zeroizedFailure } from '../host/failure.ts';
import { hardenProcess } from '../host/hardening.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import type { Config } from './config.ts';
import { askNodeForBytes, isRunning } from './control.ts';
import { stateLayout } from './node-record.ts';
import { startPool } from './pool.ts';

/** How long a node that ended its output has to write down that it was zeroized. */
const verdictMilliseconds = 3000;

/**
 * Writes `bytes` (null: without end) to a descriptor and returns how many were taken.
 * @throws Failure `zeroized` (status 4) on a zeroized node, also in the middle; `output-cut-off`; `entropy-unhealthy`.
 */
export async function streamTo(config: Config, bytes: number | null, fd: number): Promise<number> {
  const layout = stateLayout(config.node.state_dir);
  const lifecycle = new Lifecycle(layout.directory);
  const requireUnzeroized = (): void => {
    if (lifecycle.read().state === 'zeroized') throw zeroizedFailure('Random output');
  };
  requireUnzeroized();
  if (await isRunning(layout.control)) {
    const { written, cutOff } = await relay(layout.control, bytes, fd);
    if (!cutOff) return written;
    // The node stops its output before it writes down why: memory goes first, the disk last.
    for (const deadline = Date.now() + verdictMilliseconds; Date.now() < deadline; await sleep(20))
      requireUnzeroized();
    throw new Failure('output-cut-off', `The node ended its output after ${written} bytes.`, {
      kept: 'What was written is whole and good.',
      remedy: 'Look at `esoteric-appliance status`, and ask again when the node runs.',
    });
  }
  hardenProcess();
  using arena = SecretArena.allocate();
  await using pool = await startPool(config, arena, tmpdir());
  return await streamRandom((out) => pool.read(out), bytes, fd);
}

interface Relayed {
  readonly written: number;
  /** The node ended it: neither has all been written nor has the reader gone. */
  readonly cutOff: boolean;
}

async function relay(path: string, bytes: number | null, fd: number): Promise<Relayed> {
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
    if (!(await pass(first))) return { written, cutOff: false };
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      if (!(await pass(chunk))) return { written, cutOff: false };
    }
  } catch (error) {
    if (!isReset(error)) throw error;
  } finally {
    socket.destroy();
  }
  return { written, cutOff: written < wanted };
}

const isReset = (error: unknown): boolean =>
  ['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes((error as NodeJS.ErrnoException).code ?? '');
