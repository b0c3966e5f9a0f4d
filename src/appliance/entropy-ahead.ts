// What a command that gives out random bytes of its own begins with, before it has read what it is to do: a collector thread takes longer
// to start than a configuration takes to read, and nearly nothing else has to be there for it.
import { prepareCollectorWorker } from '../entropy/collector-worker.ts';
import { hardenProcess } from '../host/hardening.ts';
import { shareNativeHeaps } from '../host/heap.ts';

/** Hardens the process and starts the thread that its pool will use. Dispose of it when there is no pool any more. */
export function beginEntropyProcess(): AsyncDisposable {
  hardenProcess();
  shareNativeHeaps(); // Before the first thread.
  return prepareCollectorWorker();
}
