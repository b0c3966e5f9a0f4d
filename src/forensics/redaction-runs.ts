// The records of redaction of a journal. What is replaced in entry after entry, as a host name is, makes one record.
import type { JournalRedactionRecord } from './redact.ts';

interface Run {
  readonly first: number;
  last: number;
  readonly rule: string;
  readonly hmac: string;
}

/** What has been replaced in the fields of one name. */
interface Field {
  readonly name: string;
  /** In which entry that was last, and how often. */
  entry: number;
  count: number;
  /** In each place the last run. */
  readonly runs: Run[];
}

/** Names of fields: when there are so many, or twice as many as were left the last time, those are recorded that are over. */
const mostFields = 1024;

export class RedactionRuns {
  #entry = 1;
  readonly #fields = new Map<string, Field>();
  #mostFields = mostFields;
  #records: JournalRedactionRecord[] = [];

  /** So many entries have ended. */
  endEntries(count: number): void {
    this.#entry += count;
  }

  /** One replacement, in the entry under way. */
  add(name: string, rule: string, hmac: string): void {
    const field = this.#fields.get(name) ?? this.#begin(name);
    if (field.entry !== this.#entry) {
      // What was not there in its last entry cannot go on in a later one.
      if (field.runs.length > field.count) this.#recordFrom(field, field.count);
      field.entry = this.#entry;
      field.count = 0;
    }
    field.count += 1;
    const run = field.runs[field.count - 1];
    if (run !== undefined && run.last === this.#entry - 1 && run.hmac === hmac && run.rule === rule) {
      run.last = this.#entry;
      return;
    }
    if (run !== undefined) this.#record(field, field.count, run);
    field.runs[field.count - 1] = { first: this.#entry, last: this.#entry, rule, hmac };
  }

  take(): JournalRedactionRecord[] {
    const taken = this.#records;
    this.#records = [];
    return taken;
  }

  /** The member is over: all is recorded, and the next entry is the first. */
  end(): void {
    for (const field of this.#fields.values()) this.#recordFrom(field, 0);
    this.#fields.clear();
    this.#mostFields = mostFields;
    this.#entry = 1;
  }

  #begin(name: string): Field {
    if (this.#fields.size >= this.#mostFields) this.#close();
    // A part of a text would keep all of it in memory.
    const copy = Buffer.from(name, 'latin1').toString('latin1');
    const field = { name: copy, entry: 0, count: 0, runs: [] };
    this.#fields.set(copy, field);
    return field;
  }

  /** Records the runs of the fields in which no later entry can go on with any. */
  #close(): void {
    for (const [name, field] of this.#fields) {
      if (field.entry >= this.#entry - 1) continue;
      this.#recordFrom(field, 0);
      this.#fields.delete(name);
    }
    this.#mostFields = Math.max(mostFields, 2 * this.#fields.size);
  }

  #recordFrom(field: Field, place: number): void {
    for (const [index, run] of field.runs.splice(place).entries())
      this.#record(field, place + index + 1, run);
  }

  #record({ name }: Field, nth: number, { first, last, rule, hmac }: Run): void {
    this.#records.push({ entries: [first, last], field: name, nth, rule, hmac });
  }
}
