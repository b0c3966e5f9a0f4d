// What a file or pipe holds, in chunks, without a new buffer for each: a gigabyte would be a gigabyte of garbage.
import { closeSync, read } from 'node:fs';
import { promisify } from 'node:util';

const readInto = promisify(read);

/**
 * From where the descriptor stands to the end, or of a range of a file, in chunks of at most `chunkBytes`; one is read while the one before
 * is worked on, so a chunk is good until the next is asked for. Takes the descriptor over, and closes it when its last read has ended.
 * @throws Error of read(2), and where the file ends within the range.
 */
export async function* chunksOf(
  fd: number,
  chunkBytes: number,
  range?: { readonly from: number; readonly to: number },
): AsyncGenerator<Buffer, void, void> {
  const { from = null, to = Number.POSITIVE_INFINITY } = range ?? {};
  const most = Math.max(1, Math.min(chunkBytes, to - (from ?? 0)));
  let current = Buffer.allocUnsafeSlow(most);
  let other = Buffer.allocUnsafeSlow(most);
  let at = from;
  const take = (buffer: Buffer) => {
    const reading = readInto(fd, buffer, 0, Math.min(most, to - (at ?? 0)), at);
    reading.catch(() => {}); // It may fail while the chunk before is worked on; it is thrown where it is waited for.
    return reading;
  };
  let coming = take(current);
  try {
    for (let { bytesRead } = await coming; bytesRead > 0; { bytesRead } = await coming) {
      if (at !== null) at += bytesRead;
      coming = take(other);
      yield current.subarray(0, bytesRead);
      [current, other] = [other, current];
    }
    if (range !== undefined && at !== range.to) throw new Error('the file became shorter while it was read');
  } finally {
    // Not waited for: what is read from may be a pipe that nobody writes to.
    coming.catch(() => {}).finally(() => closeSync(fd));
  }
}
