// How soon the kernel runs the calling thread (sched(7), sched_setscheduler(2)).
import { schedSetScheduler } from './libc.ts';

const SCHED_FIFO = 1;
/** What this thread starts is ordinary again. */
const SCHED_RESET_ON_FORK = 0x4000_0000;

/** Puts the calling thread before all ordinary ones, at the lowest real-time priority. False where that is not allowed. */
export function runFirst(): boolean {
  return schedSetScheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, Int32Array.of(1)) === 0;
}
