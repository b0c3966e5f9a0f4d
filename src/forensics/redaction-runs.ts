// The records of redaction of a journal. What is replaced in entry after entry, as a host name is, makes one record.
import type { JournalRedactionRecord } from './redact.ts';

interface Run {
  readonly first: number;
  last: number;
  readonly field: string;
  readonly nth: number;
  readonly rule: string;
  readonly hmac: string;
}

/** Runs that have ended are looked for when there are so many, or twice as many as went on the last time. */
const mostOpen = 1024;

export class RedactionRuns {
  #entry = 1;
  #inEntry = false;
  /** Whether what was passed last is an empty line, or nothing. */
  #blank = true;
  /** The next empty line of the text that is being passed. */
  #next: number | undefined;
  readonly #seen = new Map<string, number>();
  #open = new Map<string, Run>();
  #mostOpen = mostOpen;
  #records: JournalRedactionRecord[] = [];

  /** Whether an entry has begun and not ended. */
  get inEntry(): boolean {
    return this.#inEntry;
  }

  /** Counts the entries that end in the text before `to`. The text begins with the line break before its first field. */
  passEntries(text: string, to: number): void {
    this.#next ??= emptyLine(text, 0);
    for (; this.#next < to; this.#next = emptyLine(text, this.#next + 1)) {
      const follows = this.#next === 0 ? this.#blank : text.charCodeAt(this.#next - 1) === newline;
      if (!follows) this.#endEntry();
    }
  }

  /** As `passEntries`, of all of the text: another one follows. */
  passText(text: string): void {
    this.passEntries(text, text.length);
    this.#next = undefined;
    this.#blank = text.endsWith('\n\n');
    this.#inEntry = !this.#blank;
  }

  /** A field that does not stand in a text. */
  passField(): void {
    this.#blank = false;
    this.#inEntry = true;
  }

  /** One replacement, in the entry under way. */
  add(field: string, rule: string, hmac: string): void {
    const nth = (this.#seen.get(field) ?? 0) + 1;
    this.#seen.set(field, nth);
    const key = `${field}\0${nth}\0${rule}\0${hmac}`;
    const run = this.#open.get(key);
    if (run !== undefined && run.last === this.#entry - 1) {
      run.last = this.#entry;
      return;
    }
    if (run !== undefined) this.#record(run);
    this.#open.set(key, { first: this.#entry, last: this.#entry, field, nth, rule, hmac });
    if (this.#open.size > this.#mostOpen) this.#close();
  }

  take(): JournalRedactionRecord[] {
    const taken = this.#records;
    this.#records = [];
    return taken;
  }

  /** The member is over: all is recorded, and the next entry is the first. */
  end(): void {
    for (const run of this.#open.values()) this.#record(run);
    this.#open.clear();
    this.#seen.clear();
    this.#entry = 1;
    this.#inEntry = false;
    this.#blank = true;
    this.#next = undefined;
  }

  #endEntry(): void {
    this.#entry += 1;
    this.#seen.clear();
  }

  /** Records the runs that no later entry can make longer. Those that go on are as many as an entry has replacements. */
  #close(): void {
    const going = [...this.#open].filter(([, { last }]) => last >= this.#entry - 1);
    for (const run of this.#open.values()) if (run.last < this.#entry - 1) this.#record(run);
    this.#open = new Map(going);
    this.#mostOpen = Math.max(mostOpen, 2 * going.length);
  }

  #record({ first, last, field, nth, rule, hmac }: Run): void {
    this.#records.push({ entries: [first, last], field, nth, rule, hmac });
  }
}

const newline = 0x0a;

function emptyLine(text: string, from: number): number {
  const found = text.indexOf('\n\n', from);
  return found === -1 ? Number.POSITIVE_INFINITY : found;
}
