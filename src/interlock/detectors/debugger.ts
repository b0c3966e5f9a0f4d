// Threads of this process that somebody traces: TracerPid of proc_pid_status(5), which is each thread's own.
import { readdirSync, readFileSync } from 'node:fs';

/** Process id of the tracer, 0 for none. Fails closed: a status that does not say counts as traced, by 1. */
export const tracerOf = (status: string): number => Number(/^TracerPid:\t(\d+)$/m.exec(status)?.[1] ?? 1);

/** How many threads are traced. `proc` is where the process is shown. */
export function tracedThreads(proc = '/proc/self'): number {
  return readdirSync(`${proc}/task`).filter((thread) => {
    try {
      return tracerOf(readFileSync(`${proc}/task/${thread}/status`, 'latin1')) !== 0;
    } catch {
      return false; // It has just ended.
    }
  }).length;
}
