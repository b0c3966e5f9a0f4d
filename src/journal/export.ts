// The Journal Export Format (systemd's JOURNAL_EXPORT_FORMATS): entries divided by empty lines, fields as `NAME=value`, or, where the
// value has line breaks or control characters, as the name, its length in 64 bits (little-endian) and the value.
import { Failure } from '../host/failure.ts';

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

/** The entries of an export, one after another, as it is read. Values are good until the next entry is asked for. */
export async function* exportEntries(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<JournalField[], void, void> {
  const parser = new ExportParser();
  for await (const chunk of chunks) yield* parser.push(chunk);
  yield* parser.end();
}

/**
 * Parses a whole export. Values are views of `bytes`.
 * @throws Failure `journal-export-invalid`, with the offset, on anything malformed or cut short.
 */
export const parseExport = (bytes: Uint8Array): JournalField[][] => [...exportEntriesOf(bytes)];

/** As `parseExport`, one entry after another. */
export function* exportEntriesOf(bytes: Uint8Array): Generator<JournalField[], void, void> {
  const parser = new ExportParser();
  yield* parser.push(bytes);
  yield* parser.end();
}

class ExportParser {
  #pending: Buffer = Buffer.alloc(0);
  /** Of what is pending, in the export. */
  #offset = 0;
  /** Of a value that is known to be long, how much must be there before it is worth another look. */
  #wanted = 0;
  #entry: JournalField[] = [];

  *push(chunk: Uint8Array): Generator<JournalField[], void, void> {
    const given = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    this.#pending = this.#pending.length === 0 ? given : Buffer.concat([this.#pending, given]);
    if (this.#pending.length < this.#wanted) return;
    this.#wanted = 0;
    let at = 0;
    while (at < this.#pending.length) {
      const item = readItem(this.#pending, at, this.#offset);
      if (item.kind === 'incomplete') {
        if (item.value !== undefined) this.#wanted = item.value.start + item.value.length + 1 - at;
        break;
      }
      at = item.next;
      if (item.kind !== 'end') this.#entry.push(item.field);
      else if (this.#entry.length > 0) {
        const entry = this.#entry;
        this.#entry = [];
        yield entry;
      }
    }
    this.#pending = this.#pending.subarray(at);
    this.#offset += at;
  }

  *end(): Generator<JournalField[], void, void> {
    if (this.#pending.length > 0) {
      const item = readItem(this.#pending, 0, this.#offset);
      throw malformed(this.#offset, item.kind === 'incomplete' ? item.why : 'something follows its end');
    }
    if (this.#entry.length > 0) yield this.#entry;
  }
}

const malformed = (offset: number, why: string): Failure =>
  new Failure('journal-export-invalid', `The journal export is malformed at byte ${offset}: ${why}.`);
