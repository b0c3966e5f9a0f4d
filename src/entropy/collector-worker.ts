// The worker threads of collectors, from before anybody can tell them what to do: a thread takes longer to start than the modules of a
// pool do to load, so that a command that will need one starts it first.
import { Worker } from 'node:worker_threads';

/** What a turn leaves behind is a few objects. By default V8 lets 48 MiB of them lie about in each thread. */
const maxYoungGenerationSizeMb = 6;

let prepared: Worker | undefined;

/**
 * Starts the thread that `collectorWorker` gives next. Dispose of what it returns before the process ends: a thread that nobody took is
 * told to go, for one that is terminated in the middle of a native call takes the process with it.
 */
export function prepareCollectorWorker(): AsyncDisposable {
  const worker = prepared ?? startWorker();
  prepared = worker;
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  worker.once('exit', () => resolve());
  // Whoever needs one then starts another, and hears what is wrong.
  worker.once('error', () => {
    if (prepared === worker) prepared = undefined;
  });
  return {
    [Symbol.asyncDispose]: async () => {
      if (prepared !== worker) return;
      prepared = undefined;
      worker.ref();
      worker.postMessage(null);
      await ended;
    },
  };
}

/** A worker that waits for its `CollectorPlace`, or for null. */
export function collectorWorker(): Worker {
  const worker = prepared ?? startWorker();
  prepared = undefined;
  return worker;
}

function startWorker(): Worker {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const worker = new Worker(new URL(`./collector.${extension}`, import.meta.url), {
    name: 'entropy',
    execArgv: [],
    resourceLimits: { maxYoungGenerationSizeMb },
  });
  worker.unref();
  return worker;
}
