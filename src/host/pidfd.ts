// Processes held by descriptor (pidfd_open(2), pidfd_send_signal(2)): a number that was reused cannot be hit by mistake.
import { Failure } from './failure.ts';
import { errno, errnoName, syscall } from './libc.ts';

const SYS_pidfd_send_signal = 424;
const SYS_pidfd_open = 434;
const SIGKILL = 9;
const ESRCH = 3;

export function openProcess(pid: number): number {
  const fd = syscall(SYS_pidfd_open, pid, 0, 0, 0);
  if (fd < 0) throw new Failure('process-gone', `Process ${pid} could not be held: ${errnoName(errno())}.`);
  return fd;
}

/** SIGKILL at once. True also for a process that has ended already: there is nothing left to end. */
export const endProcess = (pidfd: number): boolean =>
  syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, 0, 0) === 0 || errno() === ESRCH;
