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
  /** In each place the last run; none where it is taken. */
  readonly runs: (Run | undefined)[];
}

export class RedactionRuns {
  #entry = 1;
  readonly #fields = new Map<string, Field>();
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

  /**
   * All that was replaced since the last time, so that a text can be cut behind what it belongs to. What goes on in a later entry is
   * another record there.
   */
  take(): JournalRedactionRecord[] {
    for (const [name, field] of this.#fields) {
      this.#recordFrom(field, 0);
      if (field.entry < this.#entry) this.#fields.delete(name);
    }
    const taken = this.#records;
    this.#records = [];
    return taken;
  }

  /** The member is over: all is recorded, and the next entry is the first. */
  end(): void {
    for (const field of this.#fields.values()) this.#recordFrom(field, 0);
    this.#fields.clear();
    this.#entry = 1;
  }

  #begin(name: string): Field {
    // A part of a text would keep all of it in memory.
    const copy = Buffer.from(name, 'latin1').toString('latin1');
    const field = { name: copy, entry: 0, count: 0, runs: [] };
    this.#fields.set(copy, field);
    return field;
  }

  #recordFrom(field: Field, place: number): void {
    for (const [index, run] of field.runs.splice(place).entries())
      if (run !== undefined) this.#record(field, place + index + 1, run);
  }

  #record({ name }: Field, nth: number, { first, last, rule, hmac }: Run): void {
    this.#records.push({ entries: [first, last], field: name, nth, rule, hmac });
  }
}
