// The newest part of a journal, where there is not room for all of it: evidence of what has just happened lies at its end.
import { type JournalQuery, readJournal } from './read.ts';

/** Redaction makes the entries longer and records beside them what it did. */
const growth = 2;
const fewestLines = 256;

/**
 * As `readJournal`, but where that would give more than `room` bytes, with what is made of them, only so many of the newest entries
 * that they fit; what it returns at the end says so. Undefined: any size.
 */
export async function* readNewest(
  query: JournalQuery,
  room: number | undefined,
): AsyncGenerator<Uint8Array, string | undefined> {
  const lines = room === undefined ? undefined : await linesWithin(query, room / growth);
  if (lines === undefined) {
    yield* readJournal(query);
    return undefined;
  }
  if (lines > 0) yield* readJournal({ ...query, lines });
  return `Only the newest ${lines} entries were taken, because the disk is nearly full.`;
}

/** How many entries fit, to a factor of two; undefined where all do. */
async function linesWithin(query: JournalQuery, bytes: number): Promise<number | undefined> {
  const { lines: most = Number.POSITIVE_INFINITY } = query;
  let fitting = 0;
  let before = -1;
  for (let lines = fewestLines; ; lines *= 2) {
    const size = await sizeOf({ ...query, lines: Math.min(lines, most) }, bytes);
    if (size > bytes) return fitting;
    if (size === before || lines >= most) return undefined;
    before = size;
    fitting = lines;
  }
}

/** Counted until it is more than `most`. */
async function sizeOf(query: JournalQuery, most: number): Promise<number> {
  let size = 0;
  for await (const chunk of readJournal(query)) {
    size += chunk.length;
    if (size > most) break;
  }
  return size;
}
