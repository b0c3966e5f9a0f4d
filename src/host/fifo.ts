// mkfifo(3) and the size of a pipe (fcntl(2), F_SETPIPE_SZ), which Node does not offer.
import koffi from 'koffi';
import { Failure } from './failure.ts';
import { errno, errnoName } from './libc.ts';

const libc = koffi.load('libc.so.6');
const mkfifo: (path: string, mode: number) => number = libc.func('int mkfifo(const char *, unsigned int)');
const fcntl: (fd: number, command: number, argument: number) => number =
  libc.func('int fcntl(int, int, long)');
const F_SETPIPE_SZ = 1031;

/** For its owner and group, whatever the umask leaves of that. @throws Failure `fifo-failed`. */
export function makeFifo(path: string, mode = 0o660): void {
  if (mkfifo(path, mode) === 0) return;
  throw new Failure('fifo-failed', `The FIFO ${path} cannot be made: ${errnoName(errno())}.`, {
    remedy: 'Choose a path in a directory that can be written.',
  });
}

/** @throws Failure `fifo-failed` beyond what the kernel allows (/proc/sys/fs/pipe-max-size, for others than root). */
export function setPipeSize(fd: number, bytes: number): void {
  if (fcntl(fd, F_SETPIPE_SZ, bytes) >= 0) return;
  throw new Failure('fifo-failed', `The kernel refuses a buffer of ${bytes} bytes: ${errnoName(errno())}.`, {
    remedy: 'Ask for less than /proc/sys/fs/pipe-max-size.',
  });
}
