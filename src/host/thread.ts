// Long work on a thread of its own: the main thread has heartbeats to give. One thread a piece of work, which posts one answer and ends.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/**
 * What the module says to `input`, its `workerData`. `module`: without its extension, beside `caller`, which is an `import.meta.url`.
 * @throws what the module throws; Error where it ends without an answer.
 */
export async function askThread<T>(module: string, caller: string, input: unknown): Promise<T> {
  const extension = caller.endsWith('.ts') ? 'ts' : 'js';
  const url = new URL(`./${module}.${extension}`, caller);
  const worker = new Worker(url, { name: module, workerData: input, execArgv: [] });
  const ended = once(worker, 'exit').then(() => {
    throw new Error(`The thread ${module} ended without an answer.`);
  });
  const [answer] = (await Promise.race([once(worker, 'message'), ended])) as [T];
  return answer;
}
