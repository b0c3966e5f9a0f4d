// What happened, from the two histories that a bundle has: the custody log and the journal, merged by their times.

import { parseRecord } from '../custody/chain.ts';
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
