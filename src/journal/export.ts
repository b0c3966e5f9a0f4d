// The Journal Export Format (systemd's JOURNAL_EXPORT_FORMATS): entries divided by empty lines, fields as `NAME=value`, or, where the
// value has line breaks or control characters, as the name, its length in 64 bits (little-endian) and the value.
import { Failure } from '../host/failure.ts';
import { GrowingBytes } from '../host/growing-bytes.ts';

/** One field of an entry, its value as it was logged: text for most, any bytes for some. A name may occur repeatedly. */
export interface JournalField {
  readonly name: string;
  readonly value: Uint8Array;
}

/** What stands at one place of an export: a field in one of its two forms, the end of an entry, or not all of it yet. */
export type ExportItem =
  | { readonly kind: 'text' | 'binary'; readonly field: JournalField; readonly next: number }
  | { readonly kind: 'end'; readonly next: number }
  | {
      readonly kind: 'incomplete';
      readonly why: string;
      /** Where the value begins and how long it is, where that is known. */
      readonly value?: { readonly name: string; readonly start: number; readonly length: number };
    };

const lengthBytes = 8;

/**
 * Reads what begins at `at`, the start of a line. Values are views of the buffer.
 * @throws Failure `journal-export-invalid` on what is malformed, not on what is cut short.
 */
export function readItem(buffer: Buffer, at: number, offset = 0): ExportItem {
  const end = buffer.indexOf(0x0a, at);
  if (end === -1) return { kind: 'incomplete', why: 'the line has no end' };
  if (end === at) return { kind: 'end', next: end + 1 };
  const equals = buffer.indexOf(0x3d, at);
  if (equals === at) throw malformed(offset + at, 'the field has no name');
  if (equals !== -1 && equals < end) {
    const field = { name: buffer.toString('latin1', at, equals), value: buffer.subarray(equals + 1, end) };
    return { kind: 'text', field, next: end + 1 };
  }
  const start = end + 1 + lengthBytes;
  if (start > buffer.length) return { kind: 'incomplete', why: 'the length of the value is cut short' };
  const name = buffer.toString('latin1', at, end);
  const wide = buffer.readBigUInt64LE(end + 1);
  if (wide > BigInt(Number.MAX_SAFE_INTEGER))
    throw malformed(offset + at, 'the value is longer than any can be');
  const length = Number(wide);
  if (length >= buffer.length - start) {
    return { kind: 'incomplete', why: 'the value is cut short', value: { name, start, length } };
  }
  const stop = start + length;
  if (buffer[stop] !== 0x0a) throw malformed(offset + at, 'the value does not end with a line break');
  return { kind: 'binary', field: { name, value: buffer.subarray(start, stop) }, next: stop + 1 };
}

/**
 * The entries of an export, one after another, as it is read. A chunk may change when the next is asked for, and values are good until
 * the next entry is.
 * @throws Failure `journal-export-invalid`, with the offset, on anything malformed or cut short.
 */
export async function* exportEntries(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<JournalField[], void, void> {
  const pending = new GrowingBytes();
  let offset = 0;
  let wanted = 0;
  for await (const chunk of chunks) {
    pending.copy(chunk);
    if (pending.length < wanted) continue;
    const rest = yield* wholeEntries(pending.view, offset);
    pending.drop(rest.start);
    offset += rest.start;
    wanted = rest.wanted - rest.start;
  }
  yield* lastEntry(yield* wholeEntries(pending.view, offset));
}

/** As `exportEntries`, of a whole export: values are views of `bytes`. */
export function* exportEntriesOf(bytes: Uint8Array): Generator<JournalField[], void, void> {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  yield* lastEntry(yield* wholeEntries(whole, 0));
}

export const parseExport = (bytes: Uint8Array): JournalField[][] => [...exportEntriesOf(bytes)];

/** What comes behind the last entry that has an end. */
interface Rest {
  /** Where it begins. */
  readonly start: number;
  /** How much must be there before it is worth another look, where that is known. */
  readonly wanted: number;
  readonly fields: JournalField[];
  /** What is wrong with it, were it the end. */
  readonly problem?: Failure;
}

function* wholeEntries(buffer: Buffer, offset: number): Generator<JournalField[], Rest, void> {
  let start = 0;
  let fields: JournalField[] = [];
  for (let at = 0; at < buffer.length; ) {
    const item = readItem(buffer, at, offset);
    if (item.kind === 'incomplete') {
      const { value } = item;
      const wanted = value === undefined ? 0 : value.start + value.length + 1;
      return { start, wanted, fields, problem: malformed(offset + at, item.why) };
    }
    at = item.next;
    if (item.kind !== 'end') fields.push(item.field);
    else {
      if (fields.length > 0) yield fields;
      fields = [];
      start = at;
    }
  }
  return { start, wanted: 0, fields };
}

function* lastEntry({ fields, problem }: Rest): Generator<JournalField[], void, void> {
  if (problem !== undefined) throw problem;
  if (fields.length > 0) yield fields;
}

const malformed = (offset: number, why: string): Failure =>
  new Failure('journal-export-invalid', `The journal export is malformed at byte ${offset}: ${why}.`);
