// SHA-256 of files, on a thread of its own: the main thread has heartbeats to give, and Node's binary alone has a hundred megabytes.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** In hex, by path; of a file that cannot be read there is none. */
export async function digestsOf(paths: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const worker = new Worker(new URL(`./digest-thread.${extension}`, import.meta.url), {
    name: 'digests',
    workerData: paths,
    execArgv: [],
  });
  const [digests] = (await once(worker, 'message')) as [(string | undefined)[]];
  return new Map(
    paths.flatMap((path, at) => {
      const digest = digests[at];
      return digest === undefined ? [] : [[path, digest] as const];
    }),
  );
}
