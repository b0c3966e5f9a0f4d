// SHA-256 of files, on a thread of its own: Node's binary alone has a hundred megabytes.
import { askThread } from '../host/thread.ts';

/** In hex, by path; of a file that cannot be read there is none. */
export async function digestsOf(paths: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const digests = await askThread<(string | undefined)[]>('digest-thread', import.meta.url, paths);
  return new Map(
    paths.flatMap((path, at) => {
      const digest = digests[at];
      return digest === undefined ? [] : [[path, digest] as const];
    }),
  );
}
