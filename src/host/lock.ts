// One holder at a time: flock(2) on a file. The kernel releases it with the process, also after kill -9.
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { Failure } from './failure.ts';
import { flock } from './libc.ts';

const LOCK_EXCLUSIVE_NONBLOCKING = 2 | 4;

/** Holds `path` until disposed. @throws Failure `state-in-use` naming the holder's process id. */
export function holdLock(path: string, what: string): Disposable {
  const fd = openSync(path, 'a+', 0o600);
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
