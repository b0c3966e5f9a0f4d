// Directories that belong to a process with less privilege than their reader, who believes nothing of what lies there: no link is
// followed, nothing is waited for, and there is a limit to what is taken in.
import { closeSync, constants, fstatSync, opendirSync, openSync, readSync } from 'node:fs';

/** What a file there holds, or a sentence that says why it is not read. */
export type Untrusted = { readonly text: string } | { readonly problem: string };

const notRegular: Untrusted = { problem: 'It is not a regular file.' };
/** A symbolic link, and a socket: open(2). */
const notOpened = ['ELOOP', 'ENXIO'];

/** A regular file of at most so many bytes, as UTF-8. @throws as `openSync`, where it is not there or not ours to read. */
export function readUntrusted(path: string, mostBytes: number): Untrusted {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (notOpened.includes((error as NodeJS.ErrnoException).code ?? '')) return notRegular;
    throw error;
  }
  try {
    const found = fstatSync(fd);
    if (!found.isFile()) return notRegular;
    if (found.size > mostBytes) return { problem: `It is larger than ${mostBytes} bytes.` };
    // Whoever writes on meanwhile is not read.
    const bytes = Buffer.alloc(found.size);
    let length = 0;
    while (length < bytes.length) {
      const count = readSync(fd, bytes, length, bytes.length - length, length);
      if (count === 0) break;
      length += count;
    }
    return { text: bytes.toString('utf8', 0, length) };
  } finally {
    closeSync(fd);
  }
}

/** Names of at most so many entries, in no order. @throws as `opendirSync`. */
export function namesUntrusted(directory: string, mostEntries: number): string[] {
  const names: string[] = [];
  using entries = opendirSync(directory, { bufferSize: 512 });
  for (let entry = entries.readSync(); entry !== null && names.length < mostEntries; ) {
    names.push(entry.name);
    entry = entries.readSync();
  }
  return names;
}
