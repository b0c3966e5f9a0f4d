// What takes seconds of a log of years, on a thread of its own: the main thread of a node has heartbeats to give. What is little is
// done at once, for a thread takes longer to begin.
import { statSync } from 'node:fs';
import { askThread } from '../host/thread.ts';
import type { CustodyHead } from './chain.ts';
import {
  checkGzip,
  checkParts,
  type Found,
  findIn,
  type Given,
  type LogCheck,
  type Sought,
  stillSettled,
} from './check.ts';
import { LogFiles, type LogPart, sizeOf } from './segments.ts';

export type Question =
  | { readonly ask: 'check'; readonly parts: readonly LogPart[]; readonly given: Given }
  | { readonly ask: 'find'; readonly parts: readonly LogPart[]; readonly sought: Sought }
  | { readonly ask: 'packed'; readonly path: string; readonly known: CustodyHead | undefined };

/** So many bytes are checked in some tens of milliseconds. */
const little = 1 << 18;
/** A log, most of which is hashes, seldom shrinks to less than a part of so many. */
const gzipRatio = 8;

const onThread = <T>(question: Question): Promise<T> => askThread<T>('log-thread', import.meta.url, question);

/** The whole log as its chain says it is; of files that are as `given.from` tells, what was found out before. */
export async function checkAside(path: string, given: Given = {}): Promise<ReturnType<typeof checkParts>> {
  using files = new LogFiles(path);
  const { parts } = files;
  const left = sizeOf(parts.slice(stillSettled(parts, given.from).marks.length));
  return left < little ? checkParts(parts, given) : await onThread({ ask: 'check', parts, given });
}

export async function findAside(path: string, sought: Sought): Promise<Found> {
  using files = new LogFiles(path);
  const { parts } = files;
  return sizeOf(parts) < little ? findIn(parts, sought) : await onThread({ ask: 'find', parts, sought });
}

/** A log in one gzip file, as a bundle has it; as `checkPieces`. */
export async function checkPacked(path: string, known?: CustodyHead): Promise<Omit<LogCheck, 'standing'>> {
  return statSync(path).size < little / gzipRatio
    ? await checkGzip(path, known)
    : await onThread({ ask: 'packed', path, known });
}
