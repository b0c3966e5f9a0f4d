// Takes a bundle's archive apart into a directory, member by member as it is read, with all the strictness of unpack.ts.
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type ArchiveLimits, type ArchiveMember, readArchive } from './unpack.ts';

/** @throws Failure `archive-invalid`; what came before lies in the directory. */
export async function extractArchive(
  archive: AsyncIterable<Uint8Array>,
  limits: ArchiveLimits,
  directory: string,
): Promise<readonly ArchiveMember[]> {
  let open: number | undefined;
  const close = (): void => {
    if (open !== undefined) closeSync(open);
    open = undefined;
  };
  try {
    const { members } = await readArchive(archive, limits, (path) => {
      close();
      const file = join(directory, path);
      mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
      const fd = openSync(file, 'wx', 0o600);
      open = fd;
      return (chunk) => {
        for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done);
      };
    });
    return members;
  } finally {
    close();
  }
}
