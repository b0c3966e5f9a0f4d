import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Reader, Writer } from '../../src/tpm/wire.ts';

const code = (run: () => unknown): unknown => {
  try {
    run();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return undefined;
};

describe('the TPM wire format', () => {
  it('is big-endian, with 16-bit sizes in front of buffers', () => {
    const wire = new Writer().u8(1).u16(2).u32(3).u64(4n).sized(Uint8Array.of(9, 8)).done();
    expect(Buffer.from(wire).toString('hex')).toBe(
      `01${'0002'}${'00000003'}${'0000000000000004'}${'0002'}0908`,
    );
  });

  it('reads back whatever was written', () => {
    fc.assert(
      fc.property(
        fc.nat(0xff),
        fc.nat(0xffff),
        fc.nat(0xffffffff),
        fc.bigInt(0n, 0xffff_ffff_ffff_ffffn),
        fc.uint8Array({ maxLength: 3000 }),
        (a, b, c, d, bytes) => {
          const wire = new Writer().u8(a).u16(b).u32(c).u64(d).sized(bytes).bytes(bytes).done();
          const reader = new Reader(wire);
          expect([reader.u8(), reader.u16(), reader.u32(), reader.u64()]).toEqual([a, b, c, d]);
          expect(reader.sized()).toEqual(bytes);
          expect(reader.remaining).toBe(bytes.byteLength);
          expect(reader.bytes(bytes.byteLength)).toEqual(bytes);
          reader.end();
        },
      ),
    );
  });

  it('refuses to read beyond the end, wherever the bytes were cut', () => {
    const wire = new Writer().u64(1n).u32(2).u16(3).u8(4).sized(new Uint8Array(5)).done();
    for (let length = 0; length < wire.byteLength; length++) {
      const reader = new Reader(wire.subarray(0, length));
      const readAll = () => [reader.u64(), reader.u32(), reader.u16(), reader.u8(), reader.sized()];
      expect(code(readAll)).toBe('tpm-wire-truncated');
    }
  });

  it('refuses bytes that are left over', () => {
    expect(code(() => new Reader(new Uint8Array(1)).end())).toBe('tpm-wire-trailing');
  });

  it('refuses a buffer that its 16-bit size cannot express', () => {
    expect(() => new Writer().sized(new Uint8Array(0x10000))).toThrow(RangeError);
  });
});
