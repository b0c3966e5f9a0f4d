// Where each element of a DER encoding lies (X.690), so that a test can say which field a byte belongs to.

export interface DerField {
  /** Numbers of the elements on the way to it, from 0: `1.0` is the first in the second of the outermost; empty for that itself. */
  readonly path: string;
  /** Offsets of its tag, of its length and of its content, and where it ends. */
  readonly tag: number;
  readonly length: number;
  readonly content: number;
  readonly end: number;
}

const constructed = 0x20;

/** Of an encoding that is right, with tags of one byte. */
export function* derFields(der: Uint8Array, at = 0, path = ''): Generator<DerField, number, void> {
  const tag = der[at] ?? 0;
  const short = der[at + 1] ?? 0;
  const more = short < 0x80 ? 0 : short & 0x7f;
  const content = at + 2 + more;
  const size = more === 0 ? short : Buffer.from(der).readUIntBE(at + 2, more);
  const end = content + size;
  yield { path, tag: at, length: at + 1, content, end };
  if ((tag & constructed) !== 0)
    for (let next = content, nth = 0; next < end; nth += 1)
      next = yield* derFields(der, next, path === '' ? `${nth}` : `${path}.${nth}`);
  return end;
}
