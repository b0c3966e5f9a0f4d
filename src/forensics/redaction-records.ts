// The records of redaction, held against the pseudonyms that stand in a member. Pure.
import { reasonOf } from '../host/failure.ts';
import { GrowingBytes } from '../host/growing-bytes.ts';
import { type JournalField, readItem } from '../journal/export.ts';
import { latin1, pseudonymPattern } from './pseudonym.ts';
import {
  type JournalRedactionRecord,
  type RedactionRecord,
  replacements,
  type TextRedactionRecord,
} from './redact.ts';
import { longestValue } from './redact-journal.ts';

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
export const parseRecords = (bytes: Uint8Array): RedactionRecord[] => [...linesOf(bytes)].map(parseRecord);

/** One by one: all of them may be longer than a string can be. */
function* linesOf(bytes: Uint8Array): Generator<string, void, void> {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0, end = whole.indexOf(0x0a); end !== -1; at = end + 1, end = whole.indexOf(0x0a, at))
    yield whole.toString('utf8', at, end);
}

function parseRecord(text: string): RedactionRecord {
  const value = Object(JSON.parse(text)) as Partial<TextRedactionRecord & JournalRedactionRecord>;
  const { rule, hmac, entries, field, nth } = value;
  if (typeof rule !== 'string' || typeof hmac !== 'string') throw new Error('one has no rule or no HMAC');
  if (entries === undefined) return { line: Number(value.line), rule, hmac };
  const [first, last] = [Number(entries[0]), Number(entries[1])];
  if (!(first >= 1 && last >= first && Number.isSafeInteger(last))) throw new Error('one is of no entries');
  return { entries: [first, last], field: String(field), nth: Number(nth), rule, hmac };
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

/** What looks at a member piece by piece, and says what is wrong as soon as it is known. */
interface Comparison {
  take(chunk: Uint8Array): string | undefined;
  end(): string | undefined;
}

/** Holds a member against its records as it passes: a journal may be larger than what should be in memory. */
export class RecordComparison {
  readonly #counts: readonly { readonly rule: string; readonly count: number }[];
  #records: readonly RedactionRecord[] = [];
  #comparison: Comparison | undefined;
  #problem: string | undefined;

  /** `records`: the member with them; `counts`: how many of each rule there are to be. */
  constructor(records: Uint8Array, counts: readonly { readonly rule: string; readonly count: number }[]) {
    this.#counts = counts;
    try {
      this.#records = parseRecords(records);
      const isJournal = this.#records.some((record) => 'entries' in record);
      this.#comparison = isJournal ? new JournalComparison(this.#records) : new TextComparison(this.#records);
    } catch (error) {
      this.#problem = `the records of redaction cannot be read (${reasonOf(error)}).`;
    }
  }

  take(chunk: Uint8Array): void {
    if (this.#problem !== undefined) return;
    try {
      this.#problem = this.#comparison?.take(chunk);
    } catch (error) {
      this.#problem = `it cannot be read (${reasonOf(error)})`;
    }
  }

  /** Why the records are not those of the pseudonyms in the member; undefined where they are. */
  end(): string | undefined {
    const problem = this.#problem ?? this.#comparison?.end();
    if (problem !== undefined) return problem;
    const miscounted = this.#counts.find(({ rule, count }) => countOf(this.#records, rule) !== count);
    return miscounted === undefined
      ? undefined
      : `the count of rule ${miscounted.rule} is not that of the records.`;
  }
}

const countOf = (records: readonly RedactionRecord[], rule: string): number =>
  records.reduce((sum, record) => (record.rule === rule ? sum + replacements(record) : sum), 0);

class TextComparison implements Comparison {
  readonly #records: readonly RedactionRecord[];
  /** Of the piece before: what may be the beginning of a pseudonym. */
  #rest = '';
  #line = 1;
  #found = 0;

  constructor(records: readonly RedactionRecord[]) {
    this.#records = records;
  }

  take(chunk: Uint8Array): string | undefined {
    const text = this.#rest + latin1(chunk);
    const end = unfinished.exec(text)?.index ?? text.length;
    let counted = 0;
    for (const { at, digits } of pseudonymsIn(text.slice(0, end))) {
      this.#line += lineBreaks(text, counted, at);
      counted = at;
      const record = this.#records[this.#found];
      this.#found += 1;
      if (record === undefined) continue;
      if (!('line' in record) || record.line !== this.#line || !record.hmac.startsWith(digits))
        return `the pseudonym on line ${this.#line} is not the recorded one.`;
    }
    this.#line += lineBreaks(text, counted, end);
    this.#rest = text.slice(end);
    return undefined;
  }

  end(): string | undefined {
    return differs(this.#records.length, this.#found);
  }
}

/** What a pseudonym begins with, at the end of a text. */
const unfinished =
  /\xe2(?:\x80(?:\xb9(?:[a-z]{0,12}|[a-z]{1,12}:(?:[0-9a-f]{0,7}|[0-9a-f]{8}(?:\xe2\x80?)?))?)?)?$/;

function lineBreaks(text: string, from: number, to: number): number {
  let count = 0;
  for (let at = text.indexOf('\n', from); at !== -1 && at < to; at = text.indexOf('\n', at + 1)) count += 1;
  return count;
}

/** No value of a bundle is longer: what was replaced in one makes it longer, but not by so much. */
const longestField = 64 * longestValue;

/** Field by field, since an entry may have any number of them. */
class JournalComparison implements Comparison {
  readonly #records: JournalRecords;
  readonly #pending = new GrowingBytes();
  /** Where in the journal the first of them lies. */
  #offset = 0;
  /** How many must be there before they are worth another look. */
  #wanted = 0;
  #entry = 0;
  /** In the entry that is under way. */
  #places: PlacesInEntry | undefined;
  #found = 0;

  constructor(records: readonly RedactionRecord[]) {
    this.#records = new JournalRecords(records);
  }

  take(chunk: Uint8Array): string | undefined {
    this.#pending.copy(chunk);
    if (this.#pending.length < this.#wanted) return undefined;
    const bytes = this.#pending.view;
    let at = 0;
    this.#wanted = 0;
    while (at < bytes.length) {
      const item = readItem(bytes, at, this.#offset);
      if (item.kind === 'incomplete') {
        if (item.value !== undefined) this.#wanted = item.value.start + item.value.length + 1 - at;
        break;
      }
      at = item.next;
      if (item.kind === 'end') this.#places = undefined;
      else if (!this.#hasRecords(item.field))
        return `the pseudonym in ${item.field.name} of entry ${this.#entry} is not the recorded one.`;
    }
    this.#pending.drop(at);
    this.#offset += at;
    return Math.max(this.#wanted, this.#pending.length) > longestField
      ? `the field at byte ${this.#offset} is longer than any that was redacted.`
      : undefined;
  }

  #hasRecords({ name, value }: JournalField): boolean {
    if (this.#places === undefined) {
      this.#places = new PlacesInEntry();
      this.#entry += 1;
    }
    const places = this.#places;
    const found = pseudonymsInValue(value);
    this.#found += found.length;
    return found.every(
      ({ digits }) =>
        this.#records.at(this.#entry, name, places.next(name))?.hmac.startsWith(digits) === true,
    );
  }

  end(): string | undefined {
    return this.#pending.length > 0
      ? `the journal is cut short behind byte ${this.#offset}.`
      : differs(this.#records.total, this.#found);
  }
}

const differs = (recorded: number, found: number): string | undefined =>
  recorded === found ? undefined : `${recorded} redactions are recorded, ${found} are there.`;
