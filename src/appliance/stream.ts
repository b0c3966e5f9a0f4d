// `stream`: random bytes from the running node, or from a pool of this process where no node runs or other sources are asked for.
import { tmpdir } from 'node:os';
import { Sink, type StreamOptions, streamRandom } from '../entropy/outputs/stream.ts';
import { type UnconditionedMode, UnconditionedOutput } from '../entropy/outputs/unconditioned.ts';
import type { Config } from './config.ts';
import { askNodeForBytes, isRunning } from './control.ts';
import { requireUnzeroized, withOwnPool } from './entropy-process.ts';
import { policyOf, sourceNamed } from './entropy-sources.ts';
import { stateLayout } from './node-record.ts';

export interface StreamRequest extends StreamOptions {
  /** Null: without end. */
  readonly bytes: number | null;
  /** Names or families; the node's own unless told. */
  readonly sources?: readonly string[] | undefined;
}

/**
 * Writes to a descriptor and returns how many bytes of output were taken.
 * @throws Failure `zeroized` (status 4) on a zeroized node, also in the middle; `entropy-unhealthy`.
 */
export async function streamTo(config: Config, request: StreamRequest, fd: number): Promise<number> {
  requireUnzeroized(config);
  const { control } = stateLayout(config.node.state_dir);
  if (request.sources === undefined && (await isRunning(control))) {
    const written = await relay(control, request, fd);
    if (written < (request.bytes ?? Number.POSITIVE_INFINITY)) requireUnzeroized(config);
    return written;
  }
  return await withOwnPool(config, request.sources, ({ pool }) =>
    streamRandom((out) => pool.read(out), request.bytes, fd, request),
  );
}

/** Samples of one source as they are, or thinned out: not for keys. @throws Failure `source-unknown`, `source-unhealthy`. */
export async function streamUnconditioned(
  config: Config,
  mode: UnconditionedMode,
  name: string,
  request: StreamRequest,
  fd: number,
): Promise<number> {
  requireUnzeroized(config);
  using output = new UnconditionedOutput(sourceNamed(config, name, tmpdir()), mode, policyOf(name).expected);
  return await streamRandom((out) => output.read(out), request.bytes, fd, request);
}

async function relay(path: string, request: StreamRequest, fd: number): Promise<number> {
  const { first, socket } = await askNodeForBytes(path, 'stream', { bytes: request.bytes });
  const wanted = request.bytes ?? Number.POSITIVE_INFINITY;
  const sink = new Sink(fd, request);
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
    if (!(await pass(first))) return written;
    for await (const chunk of socket as AsyncIterable<Buffer>) if (!(await pass(chunk))) return written;
    await sink.end();
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
