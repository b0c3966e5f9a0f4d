// What happened, from the two histories that a bundle has: the custody log and the journal, merged by their times.

import { parseRecord } from '../custody/chain.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { exportEntries, type JournalField } from '../journal/export.ts';

export interface TimelineEntry {
  /** RFC 3339, UTC, as exact as the source tells it. */
  readonly time: string;
  /** `custody`, or the journal's identifier or unit. */
  readonly source: string;
  readonly text: string;
  /** Syslog severity, 0 to 7, where the journal tells one. */
  readonly priority?: number;
}

/** Which entries are wanted; times as in `TimelineEntry`, both included. */
export interface TimelineFilter {
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  /** Of source or text. */
  readonly grep?: RegExp | undefined;
}

/** Undefined where nothing is asked for. @throws Failure `usage` for a time or a pattern that is none. */
export function readTimelineFilter(given: {
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  readonly grep?: string | undefined;
}): TimelineFilter | undefined {
  if (given.since === undefined && given.until === undefined && given.grep === undefined) return undefined;
  return { since: readTime(given.since), until: readTime(given.until), grep: readPattern(given.grep) };
}

function readTime(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const isWhole = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$/.test(text);
  const milliseconds = isWhole ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(milliseconds)) {
    return text.endsWith('Z') && text.includes('.')
      ? inMicroseconds(text)
      : inMicroseconds(new Date(milliseconds).toISOString());
  }
  throw new Failure('usage', `${JSON.stringify(text)} is no time of a timeline.`, {
    remedy: 'Write it as 2026-11-20T16:30:00Z, with its zone, or as a day, 2026-11-20, which begins in UTC.',
    status: exitStatus.usage,
  });
}

function readPattern(text: string | undefined): RegExp | undefined {
  try {
    return text === undefined ? undefined : new RegExp(text, 'u');
  } catch (cause) {
    throw new Failure('usage', `--grep: ${reasonOf(cause)}.`, {
      remedy: 'Put a backslash before characters that are meant as they stand.',
      status: exitStatus.usage,
      cause,
    });
  }
}

const isWanted = ({ time, source, text }: TimelineEntry, { since, until, grep }: TimelineFilter): boolean =>
  (since === undefined || time >= since) &&
  (until === undefined || time <= until) &&
  (grep === undefined || grep.test(source) || grep.test(text));

/** Those of `timeline` that are wanted, in its order. */
export async function* filteredTimeline(
  entries: AsyncIterable<TimelineEntry>,
  filter: TimelineFilter = {},
): AsyncGenerator<TimelineEntry, void, void> {
  for await (const entry of entries) if (isWanted(entry, filter)) yield entry;
}

/** Merges in one pass. Each history is in its own order; where a clock was set back, so is that history's. */
export async function* timeline(
  custody: Uint8Array,
  journal: AsyncIterable<Uint8Array>,
): AsyncGenerator<TimelineEntry, void, void> {
  const records = custodyEntries(custody);
  let record = records.next();
  for await (const fields of exportEntries(journal)) {
    const entry = journalEntry(fields);
    while (!record.done && record.value.time <= entry.time) {
      yield record.value;
      record = records.next();
    }
    yield entry;
  }
  while (!record.done) {
    yield record.value;
    record = records.next();
  }
}

function* custodyEntries(log: Uint8Array): Generator<TimelineEntry, void, void> {
  for (let start = 0; start < log.length; ) {
    const end = log.indexOf(0x0a, start);
    if (end === -1) return;
    const record = parseRecord(log.subarray(start, end));
    start = end + 1;
    if (typeof record === 'string') continue;
    yield {
      time: inMicroseconds(record.time),
      source: 'custody',
      text: `${record.event} ${JSON.stringify(record.detail)}`,
    };
  }
}

function journalEntry(fields: readonly JournalField[]): TimelineEntry {
  const value = (name: string): string | undefined => {
    const found = fields.find((field) => field.name === name);
    return found === undefined ? undefined : Buffer.from(found.value).toString('utf8');
  };
  const [stamp = '0'] = /^\d{1,16}$/.exec(value('__REALTIME_TIMESTAMP') ?? '') ?? [];
  const micros = Number(stamp);
  const milliseconds = new Date(Math.min(Math.floor(micros / 1000), latest)).toISOString();
  const priority = Number(value('PRIORITY') ?? Number.NaN);
  const pid = value('_PID') ?? value('SYSLOG_PID');
  const who = value('SYSLOG_IDENTIFIER') ?? value('_SYSTEMD_UNIT') ?? value('_COMM') ?? 'journal';
  return {
    time: milliseconds.replace('Z', `${String(micros % 1000).padStart(3, '0')}Z`),
    source: pid === undefined ? who : `${who}[${pid}]`,
    text: value('MESSAGE') ?? '',
    ...(Number.isInteger(priority) ? { priority } : {}),
  };
}

/** ECMA-262, the last time that a Date can tell. */
const latest = 8.64e15;

/** So that times of both histories compare as text. */
const inMicroseconds = (time: string): string => {
  const [, seconds = time, fraction = ''] = /^(.*?)(?:\.(\d+))?Z$/.exec(time) ?? [];
  return `${seconds}.${fraction.slice(0, 6).padEnd(6, '0')}Z`;
};
