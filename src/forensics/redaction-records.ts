// The records of redaction, held against the pseudonyms that stand in a member. Pure.
import { reasonOf } from '../host/failure.ts';
import { exportEntriesOf, type JournalField } from '../journal/export.ts';
import { latin1, pseudonymPattern } from './pseudonym.ts';
import {
  type JournalRedactionRecord,
  type RedactionRecord,
  replacements,
  type TextRedactionRecord,
} from './redact.ts';

/** A pseudonym as it stands in a text. */
export interface FoundPseudonym {
  readonly kind: string;
  /** The first of the HMAC. */
  readonly digits: string;
  /** Where it begins, and its length, in Latin-1 text. */
  readonly at: number;
  readonly length: number;
}

/** Every pseudonym in a text, in order. */
export const pseudonymsIn = (text: string): FoundPseudonym[] =>
  [...text.matchAll(new RegExp(pseudonymPattern, 'g'))].map((match) => ({
    kind: match[1] ?? '',
    digits: match[2] ?? '',
    at: match.index,
    length: match[0].length,
  }));

const opening = Buffer.from('‹');

/** The pseudonyms in a value of a journal; most have none. */
export const pseudonymsInValue = (value: Uint8Array): FoundPseudonym[] =>
  Buffer.from(value.buffer, value.byteOffset, value.byteLength).includes(opening)
    ? pseudonymsIn(latin1(value))
    : [];

/** The records of a member, one JSON object a line. @throws Error that says what is wrong with them. */
export function parseRecords(bytes: Uint8Array): RedactionRecord[] {
  const lines = Buffer.from(bytes).toString('utf8').split('\n').slice(0, -1);
  return lines.map((line) => {
    const value = Object(JSON.parse(line)) as Partial<TextRedactionRecord & JournalRedactionRecord>;
    const { rule, hmac, entries, field, nth } = value;
    if (typeof rule !== 'string' || typeof hmac !== 'string') throw new Error('one has no rule or no HMAC');
    if (entries === undefined) return { line: Number(value.line), rule, hmac };
    const [first, last] = [Number(entries[0]), Number(entries[1])];
    if (!(first >= 1 && last >= first && Number.isSafeInteger(last))) throw new Error('one is of no entries');
    return { entries: [first, last], field: String(field), nth: Number(nth), rule, hmac };
  });
}

/** The records of a journal, by place. Asked in the order of its entries. */
export class JournalRecords {
  /** Of each field and place in it, in order; the first is the next that has not been passed. */
  readonly #runs = new Map<string, { readonly runs: JournalRedactionRecord[]; next: number }>();
  readonly total: number;

  constructor(records: readonly RedactionRecord[]) {
    for (const record of records) {
      if (!('entries' in record)) continue;
      const key = `${record.field}\0${record.nth}`;
      const known = this.#runs.get(key);
      if (known === undefined) this.#runs.set(key, { runs: [record], next: 0 });
      else known.runs.push(record);
    }
    for (const { runs } of this.#runs.values()) runs.sort((a, b) => a.entries[0] - b.entries[0]);
    this.total = records.reduce((sum, record) => sum + replacements(record), 0);
  }

  at(entry: number, field: string, nth: number): JournalRedactionRecord | undefined {
    const known = this.#runs.get(`${field}\0${nth}`);
    if (known === undefined) return undefined;
    while ((known.runs[known.next]?.entries[1] ?? entry) < entry) known.next += 1;
    const record = known.runs[known.next];
    return record !== undefined && record.entries[0] <= entry ? record : undefined;
  }
}

/** Counts the pseudonyms of an entry by field: which of them each is. */
export class PlacesInEntry {
  readonly #seen = new Map<string, number>();

  next(field: string): number {
    const nth = (this.#seen.get(field) ?? 0) + 1;
    this.#seen.set(field, nth);
    return nth;
  }
}

/** Why the records are not those of the pseudonyms in the member; undefined where they are. */
export function compareRecords(
  member: Uint8Array,
  bytes: Uint8Array,
  counts: readonly { readonly rule: string; readonly count: number }[],
): string | undefined {
  let records: RedactionRecord[];
  let problem: string | undefined;
  try {
    records = parseRecords(bytes);
    const isJournal = records.some((record) => 'entries' in record);
    problem = isJournal
      ? compareJournal(exportEntriesOf(member), new JournalRecords(records))
      : compareText(latin1(member), records);
  } catch (error) {
    return `the records of redaction cannot be read (${reasonOf(error)}).`;
  }
  if (problem !== undefined) return problem;
  const miscounted = counts.find(({ rule, count }) => countOf(records, rule) !== count);
  return miscounted === undefined
    ? undefined
    : `the count of rule ${miscounted.rule} is not that of the records.`;
}

const countOf = (records: readonly RedactionRecord[], rule: string): number =>
  records.reduce((sum, record) => (record.rule === rule ? sum + replacements(record) : sum), 0);

function compareText(text: string, records: readonly RedactionRecord[]): string | undefined {
  const found = pseudonymsIn(text);
  if (found.length !== records.length) return differs(records.length, found.length);
  let line = 1;
  let counted = 0;
  for (const [index, { at, digits }] of found.entries()) {
    line += text.slice(counted, at).split('\n').length - 1;
    counted = at;
    const record = records[index];
    if (
      record === undefined ||
      !('line' in record) ||
      record.line !== line ||
      !record.hmac.startsWith(digits)
    )
      return `the pseudonym on line ${line} is not the recorded one.`;
  }
  return undefined;
}

function compareJournal(entries: Iterable<JournalField[]>, records: JournalRecords): string | undefined {
  let entry = 0;
  let found = 0;
  for (const fields of entries) {
    entry += 1;
    const places = new PlacesInEntry();
    for (const { name, value } of fields) {
      for (const { digits } of pseudonymsInValue(value)) {
        found += 1;
        if (records.at(entry, name, places.next(name))?.hmac.startsWith(digits) !== true)
          return `the pseudonym in ${name} of entry ${entry} is not the recorded one.`;
      }
    }
  }
  return found === records.total ? undefined : differs(records.total, found);
}

const differs = (recorded: number, found: number): string =>
  `${recorded} redactions are recorded, ${found} are there.`;
