// Redaction of the Journal Export Format: each field by itself, names untouched, the length of a binary value written anew, so that
// what comes out can be imported as what went in. Runs of plain fields are looked at together, which is many times faster.
import type { Hmac } from 'node:crypto';
import { Failure } from '../host/failure.ts';
import { GrowingBytes } from '../host/growing-bytes.ts';
import { readItem } from '../journal/export.ts';
import { JournalFields } from './journal-fields.ts';
import { pseudonym } from './pseudonym.ts';
import type { JournalRedactionRecord, Redaction, RedactionStream } from './redact.ts';
import type { Replacement } from './redacted-lines.ts';
import { RedactionRuns } from './redaction-runs.ts';
import { type FieldAt, type Match, matchesIn } from './redaction-search.ts';

const window = 1 << 16;
/**
 * A longer value is not looked at but replaced as a whole: memory stays bounded, and no value that somebody wrote into the journal
 * holds up the thread, and the node's heartbeat, for longer than a second.
 */
export const longestValue = 1 << 18;
/** The rule and the kind of what was replaced for its length alone. */
export const oversized = { rule: 'oversized-value', kind: 'large' } as const;
/** A header line, its line break and the length: a run that ends so far before the end of what is there has none of it. */
const headerReach = 10;

const newline = 0x0a;
const lengthBytes = 8;

/** A value under way that is too long. */
interface Skipped {
  readonly name: string;
  readonly hmac: Hmac;
  /** Bytes that the value still has; undefined where it goes on to the next line break. */
  left: number | undefined;
}

export class JournalRedaction implements RedactionStream {
  readonly #redaction: Redaction;
  readonly #runs = new RedactionRuns();
  /** Of what is pending. */
  readonly #fields: JournalFields;
  /** Up to where what is pending has gone out. */
  #taken = 1;
  /** What has not been taken; begins with the line break before the field that comes next. */
  readonly #pending = new GrowingBytes();
  /** So much must be there before it is looked at. */
  #wanted = window;
  #skipped: Skipped | undefined;
  /** What came was no export: what follows is not looked at. */
  #broken = false;
  readonly #out = new GrowingBytes();
  /** Where in it the line begins, or the value of a field in its binary form, in which something is replaced. */
  #valueAt = 0;
  /** What has been replaced in that field, and of which kind each is. */
  readonly #replaced: Replacement[] = [];
  readonly #kinds: string[] = [];
  /** How many of the lines of the piece that are known have gone out, and how many entries are counted. */
  #known = 0;
  #ended = 0;

  constructor(redaction: Redaction) {
    this.#redaction = redaction;
    this.#fields = new JournalFields(redaction);
    this.#pending.write('\n');
  }

  /** @throws Failure `journal-export-invalid`; `end` then gives what came before. */
  write(chunk: Uint8Array): Uint8Array {
    this.#pending.copy(chunk);
    return this.#pending.length < this.#wanted ? new Uint8Array() : this.#advance(false);
  }

  /** A field that was cut off at its end is left out, and the entry that it belonged to is ended. */
  end(): Uint8Array {
    if (!this.#broken) this.#advance(true);
    if (this.#fields.inEntry) this.#out.write('\n');
    this.#fields.end();
    this.#runs.end();
    this.#pending.drop(this.#pending.length);
    this.#pending.write('\n');
    this.#skipped = undefined;
    this.#broken = false;
    return this.#out.view;
  }

  takeRecords(): JournalRedactionRecord[] {
    return this.#runs.take();
  }

  #advance(final: boolean): Uint8Array {
    return this.#redaction.hmacs.during(() => this.#advanced(final));
  }

  #advanced(final: boolean): Uint8Array {
    const buffer = this.#pending.view;
    this.#out.drop(this.#out.length);
    this.#wanted = window;
    this.#broken = true;
    // The byte before is a line break, or of a value that is taken already.
    let at = this.#takeSkipped(buffer, 1);
    this.#begin(buffer, at);
    try {
      while (at < buffer.length && this.#skipped === undefined) {
        const next = this.#step(buffer, at, final);
        if (next === at) break;
        at = next;
      }
    } finally {
      if (this.#skipped === undefined) this.#replaceUntil(buffer, at);
    }
    this.#pending.drop(Math.min(at, buffer.length) - 1);
    this.#wanted = Math.max(window, this.#wanted);
    this.#broken = false;
    return this.#out.view;
  }

  #begin(buffer: Buffer, at: number): void {
    this.#fields.begin(buffer);
    this.#taken = at;
  }

  /** Takes a run of plain fields, or one field; `at` where neither is all there. */
  #step(buffer: Buffer, at: number, final: boolean): number {
    // A value in text form has no control characters, and the length of a binary one has a zero byte: up to the first of
    // those lie plain fields only.
    const zero = buffer.indexOf(0, at);
    const until = (zero === -1 ? buffer.length : zero + 1) - headerReach;
    const runEnd = until > at ? buffer.lastIndexOf(newline, until - 1) + 1 : at;
    if (runEnd > at) return this.#takeRun(buffer, at, runEnd);
    const item = readItem(buffer, at);
    if (item.kind === 'incomplete') return this.#incomplete(buffer, at, item.value);
    if (item.kind !== 'binary') return zero === -1 && !final ? at : this.#takeRun(buffer, at, item.next);
    const { name, value } = item.field;
    const end = item.next - 1;
    if (value.length > longestValue)
      return this.#beginSkipping(buffer, at, end - value.length, name, value.length);
    this.#fields.addBinary(at, name, end - value.length, end);
    return item.next;
  }

  #takeRun(buffer: Buffer, at: number, runEnd: number): number {
    if (runEnd - at <= longestValue) {
      this.#fields.addLines(at, runEnd);
      return runEnd;
    }
    // One line at a time, for one may be too long.
    const next = buffer.indexOf(newline, at) + 1;
    if (next - 1 - at > longestValue) return this.#skipLine(buffer, at);
    this.#fields.addLines(at, next);
    return next;
  }

  #incomplete(
    buffer: Buffer,
    at: number,
    value: { readonly name: string; readonly start: number; readonly length: number } | undefined,
  ): number {
    if (value === undefined) return buffer.length - at > longestValue ? this.#skipLine(buffer, at) : at;
    const { name, start, length } = value;
    if (length > longestValue) return this.#beginSkipping(buffer, at, start, name, length);
    this.#wanted = start + length - at + 1;
    return at;
  }

  #skipLine(buffer: Buffer, at: number): number {
    const equals = buffer.indexOf(0x3d, at);
    if (equals === -1) {
      throw new Failure('journal-export-invalid', 'The journal export has a long line that is no field.');
    }
    return this.#beginSkipping(buffer, at, equals + 1, buffer.toString('latin1', at, equals), undefined);
  }

  #beginSkipping(buffer: Buffer, at: number, start: number, name: string, left: number | undefined): number {
    this.#replaceUntil(buffer, at);
    const hmac = this.#redaction.hmacs.begin(oversized.kind);
    this.#skipped = { name, hmac, left };
    const end = this.#takeSkipped(buffer, start);
    this.#begin(buffer, end);
    return end;
  }

  /** @returns where it ends; the field is written when the value is whole. */
  #takeSkipped(buffer: Buffer, from: number): number {
    const skipped = this.#skipped;
    if (skipped === undefined) return from;
    const lineEnd = skipped.left === undefined ? buffer.indexOf(newline, from) : from + skipped.left;
    const end = lineEnd === -1 ? buffer.length : Math.min(lineEnd, buffer.length);
    skipped.hmac.update(buffer.subarray(from, end));
    if (skipped.left !== undefined) skipped.left -= end - from;
    if (end === buffer.length) return end;
    this.#skipped = undefined;
    const hmac = skipped.hmac.digest('hex');
    this.#fields.pass();
    this.#runs.add(skipped.name, oversized.rule, hmac);
    this.#out.write(`${skipped.name}=${pseudonym(oversized.kind, hmac)}\n`);
    return end + 1;
  }

  /** Replaces what is to be replaced in the fields of the piece up to `to`, and begins another. */
  #replaceUntil(buffer: Buffer, to: number): void {
    const fields = this.#fields;
    const text = fields.length === 0 ? '' : fields.text;
    const fieldAt: FieldAt = (_, position) => fields.placeOf(fields.indexAt(position), text);
    let under = -1;
    for (const match of text === '' ? [] : matchesIn(this.#redaction.rules, text, 0, fieldAt)) {
      const index = fields.indexAt(match.start);
      if (index !== under) {
        this.#finishField(buffer, under);
        fields.areClean(under + 1, index);
        under = index;
        this.#takeKnown(buffer, fields.from(index));
        this.#countEntries(fields.endedBefore(index));
        this.#beginField(buffer, index);
      }
      const at = match.start + fields.shift(index);
      this.#out.copy(buffer, this.#taken, at);
      this.#out.write(this.#replace(match, text));
      this.#taken = at + match.original.length;
    }
    this.#finishField(buffer, under);
    fields.areClean(under + 1, fields.length);
    this.#takeKnown(buffer, to);
    this.#countEntries(fields.ended);
    this.#out.copy(buffer, this.#taken, to);
    this.#taken = to;
    this.#known = 0;
    this.#ended = 0;
    fields.begin(buffer);
  }

  /** Those of the lines of which it is known what they become that begin before `until`. */
  #takeKnown(buffer: Buffer, until: number): void {
    const { known } = this.#fields;
    for (let next = known[this.#known]; next !== undefined && next.from < until; next = known[this.#known]) {
      const { from, to, ended, line } = next;
      this.#countEntries(ended);
      this.#out.copy(buffer, this.#taken, from);
      this.#out.copy(line.redacted);
      for (const { field, rule, hmac } of line.replaced) this.#runs.add(field, rule, hmac);
      this.#taken = to + 1;
      this.#known += 1;
    }
  }

  /** So many entries have ended in the piece. */
  #countEntries(ended: number): void {
    this.#runs.endEntries(ended - this.#ended);
    this.#ended = ended;
  }

  /** Of a binary value, name and length go out as they are; the length is written anew when it is known. */
  #beginField(buffer: Buffer, index: number): void {
    const value = this.#fields.binaryValue(index);
    const from = value === -1 ? this.#fields.from(index) : value;
    this.#out.copy(buffer, this.#taken, from);
    this.#taken = from;
    this.#valueAt = this.#out.length;
    this.#kinds.length = 0;
    this.#replaced.length = 0;
  }

  #finishField(buffer: Buffer, index: number): void {
    if (index === -1) return;
    const isLine = this.#fields.binaryValue(index) === -1;
    const to = this.#fields.to(index) + (isLine ? 1 : 0);
    this.#out.copy(buffer, this.#taken, to);
    this.#taken = to;
    if (isLine) {
      const redacted = this.#out.view.subarray(this.#valueAt);
      this.#fields.isRedacted(index, redacted, this.#kinds, this.#replaced);
      return;
    }
    const length = this.#out.length - this.#valueAt;
    this.#out.view.writeBigUInt64LE(BigInt(length), this.#valueAt - lengthBytes);
  }

  #replace({ rule, original, field }: Match, text: string): string {
    const hmac = this.#redaction.hmacs.of(rule.kind, original);
    const name = field === undefined ? '' : text.slice(field.start, field.value - 1);
    this.#runs.add(name, rule.name, hmac);
    this.#kinds.push(rule.kind);
    this.#replaced.push({ field: name, rule: rule.name, hmac });
    return pseudonym(rule.kind, hmac);
  }
}
