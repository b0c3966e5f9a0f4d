// Pieces of deflate and what makes gzip of them, held against zlib.
import { crc32, gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Checksum, deflatePiece, gzipHeader, lengthOf, PieceDeflater } from '../../src/forensics/deflated.ts';

const piece = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc
    .tuple(fc.constantFrom('a', '_UID=0\n'), fc.nat(20_000))
    .map(([text, times]) => Buffer.from(text.repeat(times))),
);

describe('pieces of deflate', () => {
  it('are gzip, one behind the other, with those of another gzip among them', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 6 }),
        piece,
        fc.array(piece, { maxLength: 3 }),
        async (...given) => {
          const [first, single, second] = given;
          const parts: Uint8Array[] = [gzipHeader];
          let sum = new Checksum();
          for (const bytes of first) sum = sum.with(bytes);
          const one = new PieceDeflater();
          for (const bytes of first) parts.push(await one.deflate(bytes));
          parts.push(deflatePiece(single));
          sum = sum.with(single);
          const whole = Buffer.concat(second);
          const other = new PieceDeflater();
          for (const bytes of second) parts.push(await other.deflate(bytes));
          const end = new Checksum().with(whole).gzipEnd;
          sum = sum.withGzip(end, lengthOf(end, whole.length) ?? 0);
          const plain = Buffer.concat([...first, single, ...second]);
          expect(sum.length).toBe(plain.length);
          expect(gunzipSync(Buffer.concat([...parts, sum.gzipEnd])).equals(plain)).toBe(true);
          expect(sum.gzipEnd.readUInt32LE(2)).toBe(crc32(plain));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('lose little against one that was deflated as a whole', async () => {
    const text = Buffer.from(
      Array.from({ length: 60_000 }, (_, n) => `_PID=${(n * 7919) % 4000}\n_UID=0\n`).join(''),
    );
    const deflater = new PieceDeflater();
    let size = 0;
    for (let at = 0; at < text.length; at += 1 << 17)
      size += (await deflater.deflate(text.subarray(at, at + (1 << 17)))).length;
    expect(size).toBeLessThan(1.03 * gzipSync(text, { level: 6 }).length);
  });

  it('tell their length also beyond what the end of a gzip can tell', () => {
    const end = new Checksum().with(Buffer.alloc(7)).gzipEnd;
    expect(lengthOf(end, 2 ** 32 + 7)).toBe(2 ** 32 + 7);
    expect(lengthOf(end, 12)).toBe(7);
    expect(lengthOf(Buffer.alloc(10), 0)).toBeUndefined();
  });
});
