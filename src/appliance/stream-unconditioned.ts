// `stream --mode`: samples of one source instead of random bytes.
import { tmpdir } from 'node:os';
import { streamRandom } from '../entropy/outputs/stream.ts';
import { type UnconditionedMode, UnconditionedOutput } from '../entropy/outputs/unconditioned.ts';
import type { Config } from './config.ts';
import { policyOf, sourceNamed } from './entropy-sources.ts';
import type { StreamRequest } from './stream.ts';
import { requireUnzeroized, unzeroizedDoor } from './unzeroized.ts';

/** Bytes at a time: a source may give a few thousand a second. */
const piece = 512;

/** Samples of one source as they are, or thinned out: not for keys. @throws Failure `source-unknown`, `source-unhealthy`, `source-silent`, `zeroized`. */
export async function streamUnconditioned(
  config: Config,
  mode: UnconditionedMode,
  name: string,
  request: StreamRequest,
  fd: number,
): Promise<number> {
  requireUnzeroized(config);
  using output = new UnconditionedOutput(sourceNamed(config, name, tmpdir()), mode, policyOf(name).expected);
  const admit = unzeroizedDoor(config);
  return await streamRandom((out) => output.read(out), request.bytes, fd, { ...request, piece, admit });
}
