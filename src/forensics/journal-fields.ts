// The fields of a piece of a journal that the rules have to look at, joined in one text, which is many times faster than one after the
// other: all but the lines of which it is known that they are clean, or what they become, and those that place an entry.

import { GrowingBytes } from '../host/growing-bytes.ts';
import type { CleanLines } from './clean-lines.ts';
import type { RedactedLine, RedactedLines, Replacement } from './redacted-lines.ts';
import type { FieldPlace } from './redaction-search.ts';

const newline = 0x0a;
const equalsSign = 0x3d;
const underscore = 0x5f;

/** What is noted of a field: where it begins in the piece, and its value there, -1 of a line, whose `=` is looked for. */
const fromAt = 0;
const valueAt = 1;
/** Where its value ends in the piece. */
const toAt = 2;
/** Where it begins in the text. */
const startAt = 3;
/** Of a line, for `CleanLines`. */
const hashAt = 4;
/** How many entries have ended before it, in the piece. */
const endedAt = 5;
const numbersEach = 6;

/** A line of which it is known what it becomes, and how many entries have ended before it, in the piece. */
export interface KnownLine {
  readonly from: number;
  readonly to: number;
  readonly ended: number;
  readonly line: RedactedLine;
}

export class JournalFields {
  readonly #clean: CleanLines;
  readonly #redacted: RedactedLines;
  /** In the order of the piece. */
  readonly known: KnownLine[] = [];
  #piece: DataView = new DataView(new ArrayBuffer(0));
  #bytes: Uint8Array = new Uint8Array();
  readonly #joined = new GrowingBytes();
  /** Six numbers for each field, at `fromAt` and so on. */
  #numbers = new Int32Array(numbersEach * 1024);
  #length = 0;
  /** Entries that have ended in the piece. */
  #ended = 0;
  #inEntry = false;

  constructor({ clean, redacted }: { readonly clean: CleanLines; readonly redacted: RedactedLines }) {
    this.#clean = clean;
    this.#redacted = redacted;
  }

  /** Begins another piece, which goes on where the last one ended. */
  begin(piece: Buffer): void {
    this.#bytes = piece;
    this.#piece = new DataView(piece.buffer, piece.byteOffset, piece.byteLength);
    this.#joined.drop(this.#joined.length);
    this.#joined.write('\n');
    this.#length = 0;
    this.#ended = 0;
    this.known.length = 0;
  }

  get length(): number {
    return this.#length;
  }

  /** Entries that have ended in the piece. */
  get ended(): number {
    return this.#ended;
  }

  /** Whether an entry has begun and not ended. */
  get inEntry(): boolean {
    return this.#inEntry;
  }

  /** A field that does not stand in a piece. */
  pass(): void {
    this.#inEntry = true;
  }

  /** The journal is over. */
  end(): void {
    this.#inEntry = false;
  }

  /** Whole lines. */
  addLines(from: number, to: number): void {
    const piece = this.#piece;
    const { length } = this.#bytes;
    const clean = this.#clean;
    for (let at = from; at < to; ) {
      const byte = piece.getUint8(at);
      if (byte === newline) {
        if (this.#inEntry) this.#ended += 1;
        this.#inEntry = false;
        at += 1;
        continue;
      }
      this.#inEntry = true;
      if (byte === underscore && mayPlace(piece, at)) {
        const end = placeEnd(piece, length, at);
        if (end !== -1) {
          at = end + 1;
          continue;
        }
      }
      const isClean = clean.has(piece, length, at);
      const { end } = clean;
      if (!isClean) this.#addLine(at, end, clean.hash);
      at = end + 1;
    }
  }

  #addLine(from: number, to: number, hash: number): void {
    const line = this.#redacted.find(this.#bytes, from, to, hash);
    if (line !== undefined) {
      this.known.push({ from, to, ended: this.#ended, line });
      return;
    }
    this.#add(from, -1, to, hash);
    this.#joined.copy(this.#bytes, from, to + 1);
  }

  /** A field in its binary form, whose value ends before `to`. */
  addBinary(from: number, name: string, value: number, to: number): void {
    this.#inEntry = true;
    this.#add(from, value, to, 0);
    this.#joined.write(`${name}=`);
    this.#joined.copy(this.#bytes, value, to);
    this.#joined.write('\n');
  }

  /** A line break, and each field with one behind it. */
  get text(): string {
    return this.#joined.view.toString('latin1');
  }

  /** Which field has a position of the text in it. */
  indexAt(position: number): number {
    let low = 0;
    let high = this.#length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#number(middle, startAt) <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** In the text; null where it must stay as it is. */
  placeOf(index: number, text: string): FieldPlace | null {
    const { start, end } = this.#rangeOf(index);
    const value = this.#number(index, valueAt);
    if (value !== -1) return { start, value: end - (this.to(index) - value), end };
    if (text.charCodeAt(start) === underscore && address.test(text.slice(start, end))) return null;
    const equals = text.indexOf('=', start);
    return { start, value: equals === -1 || equals >= end ? end : equals + 1, end };
  }

  /** Of a field in its binary form, where its value begins in the piece; -1 of a line. */
  binaryValue(index: number): number {
    return index < 0 ? -1 : this.#number(index, valueAt);
  }

  /** How much further behind its value stands in the piece than in the text. */
  shift(index: number): number {
    const { end } = this.#rangeOf(index);
    return this.to(index) - end;
  }

  /** Where it begins in the piece. */
  from(index: number): number {
    return this.#number(index, fromAt);
  }

  /** A line that comes again: `redacted` is what has become of it. */
  isRedacted(
    index: number,
    redacted: Uint8Array,
    kinds: readonly string[],
    replaced: readonly Replacement[],
  ): void {
    const [from, to, hash] = [this.from(index), this.to(index), this.#number(index, hashAt)];
    if (!this.#redacted.wants(to - from, hash, kinds)) return;
    this.#redacted.keep(hash, {
      original: Uint8Array.from(this.#bytes.subarray(from, to)),
      redacted: Uint8Array.from(redacted),
      // A part of a text would keep all of it in memory.
      replaced: replaced.map((one) => ({
        ...one,
        field: Buffer.from(one.field, 'latin1').toString('latin1'),
      })),
    });
  }

  /** Where its value ends in the piece. */
  to(index: number): number {
    return this.#number(index, toAt);
  }

  /** How many entries have ended before it. */
  endedBefore(index: number): number {
    return this.#number(index, endedAt);
  }

  /** Nothing is to be replaced in these fields. */
  areClean(first: number, end: number): void {
    for (let index = first; index < end; index += 1) {
      if (this.#number(index, valueAt) !== -1) continue;
      this.#clean.offer(
        this.#piece,
        this.#number(index, fromAt),
        this.to(index),
        this.#number(index, hashAt),
      );
    }
  }

  #rangeOf(index: number): { readonly start: number; readonly end: number } {
    const next = index + 1 < this.#length ? this.#number(index + 1, startAt) : this.#joined.length;
    return { start: this.#number(index, startAt), end: next - 1 };
  }

  #number(index: number, which: number): number {
    return this.#numbers[index * numbersEach + which] ?? 0;
  }

  #add(from: number, value: number, to: number, hash: number): void {
    const at = this.#length * numbersEach;
    if (at === this.#numbers.length) {
      const more = new Int32Array(2 * at);
      more.set(this.#numbers);
      this.#numbers = more;
    }
    this.#numbers[at + fromAt] = from;
    this.#numbers[at + valueAt] = value;
    this.#numbers[at + toAt] = to;
    this.#numbers[at + startAt] = this.#joined.length;
    this.#numbers[at + hashAt] = hash;
    this.#numbers[at + endedAt] = this.#ended;
    this.#length += 1;
  }
}

/**
 * What places an entry, as journalctl writes it: without it nothing can be imported, and none of it names anybody. And when it was logged,
 * as journald was told by the kernel (systemd.journal-fields(7), trusted fields).
 */
const address =
  /^(?:(?:__(?:REALTIME_TIMESTAMP|MONOTONIC_TIMESTAMP|SEQNUM)|_SOURCE_(?:REALTIME|BOOTTIME|MONOTONIC)_TIMESTAMP)=\d{1,20}|(?:_BOOT_ID|__SEQNUM_ID)=[0-9a-f]{32}|__CURSOR=(?:[a-z]=[0-9a-f]{1,32};?){1,8})$/;

interface Name {
  readonly bytes: DataView;
  readonly length: number;
}

function named(name: string): Name {
  const { buffer, byteOffset, length } = Buffer.from(name);
  return { bytes: new DataView(buffer, byteOffset, length), length };
}

const cursorName = named('__CURSOR=');
const numberNames = [
  '__REALTIME_TIMESTAMP=',
  '__MONOTONIC_TIMESTAMP=',
  '__SEQNUM=',
  '_SOURCE_REALTIME_TIMESTAMP=',
  '_SOURCE_BOOTTIME_TIMESTAMP=',
  '_SOURCE_MONOTONIC_TIMESTAMP=',
].map(named);

/** Whether a line that begins with `_` may have a name that `placeEnd` knows, by the next two letters. */
function mayPlace(piece: DataView, start: number): boolean {
  const second = piece.getUint8(start + 1);
  return second === underscore || (second === 0x53 && piece.getUint8(start + 2) === 0x4f);
}

/**
 * Where a line ends that `address` knows, by a look at its bytes: each entry has some that no other has. -1 where it may know it not.
 * `length`: of the piece.
 */
function placeEnd(piece: DataView, length: number, start: number): number {
  if (isNamed(piece, length, start, cursorName)) return cursorEnd(piece, start + cursorName.length);
  for (const name of numberNames)
    if (isNamed(piece, length, start, name)) return numberEnd(piece, start + name.length);
  return -1;
}

/** Compared four bytes at a time, the last four last. */
function isNamed(piece: DataView, length: number, start: number, name: Name): boolean {
  const last = name.length - 4;
  if (start + name.length > length) return false;
  for (let at = 0; at < last; at += 4)
    if (piece.getInt32(start + at) !== name.bytes.getInt32(at)) return false;
  return piece.getInt32(start + last) === name.bytes.getInt32(last);
}

function numberEnd(piece: DataView, start: number): number {
  let at = start;
  while (isDigit(piece.getUint8(at))) at += 1;
  return piece.getUint8(at) === newline && at > start && at - start <= 20 ? at : -1;
}

function cursorEnd(piece: DataView, start: number): number {
  let at = start;
  for (let parts = 1; parts <= 8; parts += 1) {
    const letter = piece.getUint8(at);
    if (letter < 0x61 || letter > 0x7a || piece.getUint8(at + 1) !== equalsSign) return -1;
    at += 2;
    const digits = at;
    while (isHex(piece.getUint8(at))) at += 1;
    if (at === digits || at - digits > 32) return -1;
    const next = piece.getUint8(at);
    if (next === newline) return at;
    if (next !== 0x3b) return -1;
    at += 1;
  }
  return -1;
}

const isDigit = (byte: number): boolean => byte >= 0x30 && byte <= 0x39;
const isHex = (byte: number): boolean => isDigit(byte) || (byte >= 0x61 && byte <= 0x66);
