// One holder at a time: flock(2) on a file. The kernel releases it with the process, also after kill -9.
import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { Failure, reasonOf } from './failure.ts';
import { flock } from './libc.ts';

const LOCK_EXCLUSIVE_NONBLOCKING = 2 | 4;

/** Holds `path` until disposed. @throws Failure `state-in-use` naming the holder's process id; `lock-unusable`. */
export function holdLock(path: string, what: string): Disposable {
  const fd = openLock(path);
  if (flock(fd, LOCK_EXCLUSIVE_NONBLOCKING) !== 0) {
    const holder = readFileSync(path, 'utf8').trim();
    closeSync(fd);
    throw new Failure('state-in-use', `${what} is in use by process ${holder || 'unknown'}.`, {
      kept: 'Nothing was touched.',
      remedy: 'Stop that process first, or give another --state-dir.',
    });
  }
  ftruncateSync(fd);
  writeSync(fd, `${process.pid}\n`);
  return { [Symbol.dispose]: () => closeSync(fd) };
}

/** Follows no link: the directory may belong to somebody with less privilege. */
function openLock(path: string): number {
  const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;
  try {
    return openSync(path, flags, 0o600);
  } catch (cause) {
    throw new Failure('lock-unusable', `The lock ${path} cannot be opened: ${reasonOf(cause)}.`, {
      kept: 'Nothing was touched.',
      remedy: 'Look at what lies there and who owns it; remove it if it is not a plain file.',
      cause,
    });
  }
}
