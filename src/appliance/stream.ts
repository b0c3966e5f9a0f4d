// `stream`: random bytes from the running node, or from a pool of this process where no node runs or other sources are asked for.
import { setTimeout as sleep } from 'node:timers/promises';
import { Sink, type StreamOptions, streamRandom } from '../entropy/outputs/stream.ts';
import { Failure } from '../host/failure.ts';
import type { Config } from './config.ts';
import { askNodeForBytes, isRunning } from './control.ts';
import { orNoOutput } from './no-output.ts';
import { stateLayout } from './state-layout.ts';
import { requireUnzeroized, unzeroizedDoor } from './unzeroized.ts';

/** How long a node that ended its output has to write down that it was zeroized. */
const verdictMilliseconds = 3000;

export interface StreamRequest extends StreamOptions {
  /** Null: without end. */
  readonly bytes: number | null;
  /** Names or families; the node's own unless told. */
  readonly sources?: readonly string[] | undefined;
}

/**
 * Writes to a descriptor and returns how many bytes of output were taken.
 * @throws Failure `zeroized` on a zeroized node, also in the middle, and `entropy-…` where there is no good seed (both status 4);
 * `output-cut-off`.
 */
export async function streamTo(config: Config, asked: StreamRequest, fd: number): Promise<number> {
  requireUnzeroized(config);
  const request: StreamRequest = { ...asked, admit: unzeroizedDoor(config) };
  const { control } = stateLayout(config.node.state_dir);
  if (request.sources === undefined && (await isRunning(control))) {
    const { written, cutOff } = await orNoOutput(() => relay(control, request, fd));
    if (!cutOff) return written;
    // The node stops its output before it writes down why: memory goes first, the disk last.
    for (const deadline = Date.now() + verdictMilliseconds; Date.now() < deadline; await sleep(20))
      requireUnzeroized(config);
    throw new Failure('output-cut-off', `The node ended its output after ${written} bytes.`, {
      kept: 'What was written is whole and good.',
      remedy: 'Look at `esoteric-appliance status`, and ask again when the node runs.',
    });
  }
  const { withOwnPool } = await import('./entropy-process.ts');
  return await withOwnPool(config, request.sources, ({ pool }) =>
    streamRandom((out) => pool.read(out), request.bytes, fd, request),
  );
}

interface Relayed {
  readonly written: number;
  /** The node ended it: neither has all been written nor has the reader gone. */
  readonly cutOff: boolean;
}

async function relay(path: string, request: StreamRequest, fd: number): Promise<Relayed> {
  const { first, socket } = await askNodeForBytes(path, 'stream', { bytes: request.bytes });
  const wanted = request.bytes ?? Number.POSITIVE_INFINITY;
  using sink = new Sink(fd, request);
  let written = 0;
  /** False when the reader has gone. */
  const pass = async (chunk: Buffer): Promise<boolean> => {
    const whole = chunk.subarray(0, wanted - written);
    for (let at = 0; at < whole.length; at += sink.piece) {
      const part = whole.subarray(at, at + sink.piece);
      await sink.ready(part.length);
      const taken = await sink.write(part);
      written += taken;
      if (taken < part.length) return false;
    }
    return true;
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
  await sink.end();
  return { written, cutOff: written < wanted };
}

const isReset = (error: unknown): boolean =>
  ['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes((error as NodeJS.ErrnoException).code ?? '');
