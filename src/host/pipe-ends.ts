// An anonymous pipe as two descriptors of this process.
import { Failure } from './failure.ts';
import { errno, errnoName, fcntl, pipe2 } from './libc.ts';

const O_CLOEXEC = 0o2000000;
const F_SETPIPE_SZ = 1031;

export interface PipeEnds {
  readonly readEnd: number;
  readonly writeEnd: number;
}

/** @throws Failure `pipe-unavailable`. `flags` as for pipe2(2), beside O_CLOEXEC. */
export function pipeEnds(flags = 0): PipeEnds {
  const ends = new Int32Array(2);
  if (pipe2(ends, O_CLOEXEC | flags) !== 0)
    throw new Failure('pipe-unavailable', `No pipe: ${errnoName(errno())}.`);
  const [readEnd = -1, writeEnd = -1] = ends;
  return { readEnd, writeEnd };
}

/** What any user may have a pipe hold, unless all of the user's hold too much already: then it stays as it is (pipe(7)). */
export function widen({ writeEnd }: PipeEnds): void {
  fcntl(writeEnd, F_SETPIPE_SZ, 1 << 20);
}
