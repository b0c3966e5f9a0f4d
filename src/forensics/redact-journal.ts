// Redaction of the Journal Export Format: each field by itself, names untouched, the length of a binary value written anew, so that
// what comes out can be imported as what went in. Runs of plain fields are looked at together, which is many times faster.
import type { Hmac } from 'node:crypto';
import { Failure } from '../host/failure.ts';
import { readItem } from '../journal/export.ts';
import { GrowingBytes } from './growing-bytes.ts';
import { latin1, pseudonym } from './pseudonym.ts';
import type { JournalRedactionRecord, Redaction, RedactionStream } from './redact.ts';
import { RedactionRuns } from './redaction-runs.ts';
import { type FieldAt, type FieldPlace, type Match, matchesIn } from './redaction-search.ts';

const window = 1 << 16;
/** A longer value is not looked at but replaced as a whole, so that memory stays bounded. */
export const longestValue = 1 << 23;
/** The rule and the kind of what was replaced for its length alone. */
export const oversized = { rule: 'oversized-value', kind: 'large' } as const;
/** A header line, its line break and the length: a run that ends so far before the end of what is there has none of it. */
const headerReach = 10;

const newline = 0x0a;

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
  /** What has not been taken; begins with the line break before the field that comes next. */
  readonly #pending = new GrowingBytes();
  /** So much must be there before it is looked at. */
  #wanted = window;
  #skipped: Skipped | undefined;
  /** What came was no export: what follows is not looked at. */
  #broken = false;
  readonly #out = new GrowingBytes();

  constructor(redaction: Redaction) {
    this.#redaction = redaction;
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
    if (this.#runs.inEntry) this.#out.write('\n');
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
    const buffer = this.#pending.view;
    this.#out.drop(this.#out.length);
    this.#wanted = window;
    this.#broken = true;
    // The byte before is a line break, or of a value that is taken already.
    let at = this.#takeSkipped(buffer, 1);
    while (at < buffer.length && this.#skipped === undefined) {
      const next = this.#step(buffer, at, final);
      if (next === at) break;
      at = next;
    }
    this.#pending.drop(Math.min(at, buffer.length) - 1);
    this.#wanted = Math.max(window, this.#wanted);
    this.#broken = false;
    return this.#out.view;
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
    if (value.length > longestValue) {
      return this.#beginSkipping(buffer, item.next - 1 - value.length, name, value.length);
    }
    this.#redactBinary(name, value);
    return item.next;
  }

  #takeRun(buffer: Buffer, at: number, runEnd: number): number {
    if (runEnd - at <= longestValue) {
      this.#redactRun(buffer, at, runEnd);
      return runEnd;
    }
    // One line at a time, for one may be too long.
    const next = buffer.indexOf(newline, at) + 1;
    if (next - 1 - at > longestValue) return this.#skipLine(buffer, at);
    this.#redactRun(buffer, at, next);
    return next;
  }

  #incomplete(
    buffer: Buffer,
    at: number,
    value: { readonly name: string; readonly start: number; readonly length: number } | undefined,
  ): number {
    if (value === undefined) return buffer.length - at > longestValue ? this.#skipLine(buffer, at) : at;
    const { name, start, length } = value;
    if (length > longestValue) return this.#beginSkipping(buffer, start, name, length);
    this.#wanted = start + length - at + 1;
    return at;
  }

  #skipLine(buffer: Buffer, at: number): number {
    const equals = buffer.indexOf(0x3d, at);
    if (equals === -1) {
      throw new Failure('journal-export-invalid', 'The journal export has a long line that is no field.');
    }
    return this.#beginSkipping(buffer, equals + 1, buffer.toString('latin1', at, equals), undefined);
  }

  #beginSkipping(buffer: Buffer, start: number, name: string, left: number | undefined): number {
    const hmac = this.#redaction.hmacs.begin(oversized.kind);
    this.#skipped = { name, hmac, left };
    return this.#takeSkipped(buffer, start);
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
    this.#runs.add(skipped.name, oversized.rule, hmac);
    this.#out.write(`${skipped.name}=${pseudonym(oversized.kind, hmac)}\n`);
    return end + 1;
  }

  #redactRun(buffer: Buffer, from: number, to: number): void {
    const offset = from - 1;
    const text = buffer.toString('latin1', offset, to);
    let at = 1;
    for (const match of matchesIn(this.#redaction.rules, text, 0, fieldsOf(text))) {
      this.#runs.passEntries(text, match.start);
      this.#out.copy(buffer, offset + at, offset + match.start);
      this.#out.write(this.#replace(match, text));
      at = match.start + match.original.length;
    }
    this.#runs.passText(text);
    this.#out.copy(buffer, offset + at, to);
  }

  #redactBinary(name: string, value: Uint8Array): void {
    const text = `\n${name}=${latin1(value)}\n`;
    const field = { start: 1, value: name.length + 2, end: text.length - 1 };
    const pieces: string[] = [];
    let at = field.value;
    this.#runs.passField();
    for (const match of matchesIn(this.#redaction.rules, text, 0, () => field)) {
      pieces.push(text.slice(at, match.start), this.#replace(match, text));
      at = match.start + match.original.length;
    }
    const redacted = pieces.join('') + text.slice(at, field.end);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(redacted.length));
    this.#out.write(`${name}\n`);
    this.#out.copy(length);
    this.#out.write(`${redacted}\n`);
  }

  #replace({ rule, original, field }: Match, text: string): string {
    const hmac = this.#redaction.hmacs.of(rule.kind, original);
    const name = field === undefined ? '' : text.slice(field.start, field.value - 1);
    this.#runs.add(name, rule.name, hmac);
    return pseudonym(rule.kind, hmac);
  }
}

/** What places an entry, as journalctl writes it: without it nothing can be imported, and none of it names anybody. */
const address =
  /^(?:__(?:REALTIME_TIMESTAMP|MONOTONIC_TIMESTAMP|SEQNUM)=\d{1,20}|(?:_BOOT_ID|__SEQNUM_ID)=[0-9a-f]{32}|__CURSOR=(?:[a-z]=[0-9a-f]{1,32};?){1,8})$/;

/** Finds the field of a position in a run of plain fields. */
function fieldsOf(text: string): FieldAt {
  let last: { readonly start: number; readonly end: number; readonly place: FieldPlace | null } | undefined;
  return (_, position) => {
    if (last !== undefined && last.start <= position && position <= last.end) return last.place;
    const start = text.lastIndexOf('\n', position - 1) + 1;
    const found = text.indexOf('\n', position);
    const end = found === -1 ? text.length : found;
    const equals = text.indexOf('=', start);
    const value = equals === -1 || equals >= end ? end : equals + 1;
    const stays = text.charCodeAt(start) === underscore && address.test(text.slice(start, end));
    last = { start, end, place: stays ? null : { start, value, end } };
    return last.place;
  };
}

const underscore = 0x5f;
