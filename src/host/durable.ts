// Files that survive kill -9 and power loss at any instant: written beside, synced, renamed, directory synced.
import {
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Of a file that is being written. One whose writer was killed stays behind, see `removeDurable`. */
const suffix = '.new';

/** Follows no link and reuses no file: what lies there under this name may be somebody else's. */
const exclusive = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** Replaces `path` atomically: a reader sees the old content or the new, never a part. */
export function writeDurably(path: string, content: string | Uint8Array, mode = 0o600): void {
  const beside = `${path}.${process.pid}${suffix}`;
  try {
    rmSync(beside, { force: true, recursive: true });
    const fd = openSync(beside, exclusive, mode);
    try {
      fchmodSync(fd, mode); // Whatever the umask is.
      const bytes = typeof content === 'string' ? Buffer.from(content) : content;
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true, recursive: true });
    throw error;
  }
  syncDirectory(dirname(path));
}

/** Removes what `writeDurably` wrote at `path`, and what writers of it that were killed have left beside it. */
export function removeDurable(path: string): void {
  const directory = dirname(path);
  const start = `${basename(path)}.`;
  for (const name of readdirSync(directory)) {
    const writer =
      name.startsWith(start) && name.endsWith(suffix) && name.slice(start.length, -suffix.length);
    if (writer && /^\d+$/.test(writer)) rmSync(join(directory, name), { force: true });
  }
  rmSync(path, { force: true });
}

export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The file's text, or undefined where there is none. */
export function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
