// The newest part of a journal, where all of it would be too much: evidence of what has just happened lies at its end.
import { type JournalQuery, readJournal } from './read.ts';

/** Redaction makes the entries longer and records beside them what it did. */
const growth = 2;
const firstTry = 256;

/**
 * As `readJournal`, but where that would give more than `most` bytes, or, with what is made of them, more than `room`, only so many
 * of the newest entries that they fit; what it returns at the end says so. `room` undefined: any size.
 */
export async function* readNewest(
  query: JournalQuery,
  most: number,
  room: number | undefined,
): AsyncGenerator<Uint8Array, string | undefined> {
  const limit = limitOf(most, room);
  const lines = await linesWithin(query, limit.bytes);
  if (lines === undefined) {
    yield* readJournal(query);
    return undefined;
  }
  if (lines > 0) yield* readJournal({ ...query, lines });
  return `Only the newest ${lines} entries were taken, because ${limit.why}.`;
}

function limitOf(most: number, room: number | undefined): { readonly bytes: number; readonly why: string } {
  return room !== undefined && room / growth < most
    ? { bytes: room / growth, why: 'the disk is nearly full' }
    : { bytes: most, why: `all of them would be more than ${most} bytes` };
}

/** How many entries fit, to an eighth; undefined where all do. */
async function linesWithin(query: JournalQuery, bytes: number): Promise<number | undefined> {
  const { lines: most = Number.POSITIVE_INFINITY } = query;
  let fitting = 0;
  let tooMany = firstTry;
  for (let before = -1; ; tooMany *= 2) {
    const size = await sizeOf({ ...query, lines: Math.min(tooMany, most) }, bytes);
    if (size > bytes) break;
    if (size === before || tooMany >= most) return undefined;
    before = size;
    fitting = tooMany;
  }
  while (tooMany - fitting > 1 + fitting / 8) {
    const lines = Math.floor((fitting + tooMany) / 2);
    if ((await sizeOf({ ...query, lines }, bytes)) > bytes) tooMany = lines;
    else fitting = lines;
  }
  return fitting;
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
