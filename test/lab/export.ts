// Journals made up, in the Journal Export Format.

export type ExportFields = readonly (readonly [name: string, value: string | Uint8Array])[];

/** Entries as journalctl prints them: a value with control characters in its length-prefixed form. */
export const exported = (entries: readonly ExportFields[]): Buffer =>
  Buffer.concat(entries.flatMap((fields) => [...fields.map(fieldBytes), Buffer.from('\n')]));

/** With all that places an entry: one a second, from 2026-11-20T16:30:00Z on. */
export function journalEntry(n: number, fields: ExportFields): ExportFields {
  const hex = (value: number) => value.toString(16);
  const micros = start + n * 1_000_000;
  return [
    [
      '__CURSOR',
      `s=${'a'.repeat(32)};i=${hex(n + 1)};b=${boot};m=${hex(n + 1)};t=${hex(micros)};x=${hex(n + 7)}`,
    ],
    ['__REALTIME_TIMESTAMP', String(micros)],
    ['__MONOTONIC_TIMESTAMP', String(n + 1)],
    ['_BOOT_ID', boot],
    ...fields,
  ];
}

const start = Date.parse('2026-11-20T16:30:00Z') * 1000;
const boot = '0123456789abcdef0123456789abcdef';

function fieldBytes([name, value]: ExportFields[number]): Buffer {
  const bytes = Buffer.from(value);
  const control = bytes.some((byte) => byte < 0x20 && byte !== 0x09) || !isUtf8(bytes);
  if (!control) return Buffer.concat([Buffer.from(`${name}=`), bytes, Buffer.from('\n')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n')]);
}

const isUtf8 = (bytes: Buffer): boolean => Buffer.from(bytes.toString('utf8')).equals(bytes);
