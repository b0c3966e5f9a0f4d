// C structures made by hand, against the marshalling library of tpm2-tss: it reads in them what we wrote, and finds room for more.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bufferSizes,
  noHashTicket,
  ownScheme,
  pcrBankNames,
  pcrSelection,
  sensitiveCreate,
  sessionSymmetric,
  sizedBuffer,
  structure,
  ticketSize,
} from '../../src/tpm/structs.ts';
import { Writer } from '../../src/tpm/wire.ts';
import { marshalled, thereAndBack, tss } from './native.ts';

const bytesUpTo = (maxLength: number) => fc.uint8Array({ maxLength });
const banks = fc.subarray([...pcrBankNames], { minLength: 1 });
const pcrNumbers = fc.subarray(Array.from({ length: 24 }, (_, pcr) => pcr));

describe('C structures made by hand', () => {
  it('select PCRs as the library does', () => {
    fc.assert(
      fc.property(banks, pcrNumbers, (list, pcrs) => {
        const wire = pcrSelection(list, pcrs);
        expect(marshalled('TPML_PCR_SELECTION', structure({ tss }, 'TPML_PCR_SELECTION', wire))).toEqual(
          wire,
        );
      }),
    );
  });

  it.each(Object.entries(bufferSizes))('hold a TPM2B_%s of up to %i bytes, and no more', (name, capacity) => {
    fc.assert(
      fc.property(bytesUpTo(capacity), (bytes) => {
        const wire = marshalled(`TPM2B_${name}`, sizedBuffer(bytes, capacity));
        expect(wire).toEqual(new Writer().sized(bytes).done());
        expect(thereAndBack(`TPM2B_${name}`, wire).wire).toEqual(wire);
      }),
      { numRuns: 30 },
    );
    const full = new Uint8Array(capacity).fill(1);
    expect(marshalled(`TPM2B_${name}`, sizedBuffer(full, capacity))).toHaveLength(2 + capacity);
    const beyond = sizedBuffer(new Uint8Array(capacity + 1), capacity + 1);
    expect(() => marshalled(`TPM2B_${name}`, beyond)).toThrow(`TPM2B_${name}_Marshal`);
    expect(() => sizedBuffer(new Uint8Array(capacity + 1), capacity)).toThrow('do not fit');
  });

  it('carry a secret behind an empty authorization', () => {
    fc.assert(
      fc.property(bytesUpTo(128), (secret) => {
        const content = new Writer().sized(new Uint8Array()).sized(secret).done();
        const wire = marshalled('TPM2B_SENSITIVE_CREATE', sensitiveCreate(secret));
        expect(wire).toEqual(new Writer().sized(content).done());
      }),
    );
  });

  it('say AES-128-CFB, the key’s own scheme, and that there is no ticket', () => {
    expect(marshalled('TPMT_SYM_DEF', sessionSymmetric)).toEqual(
      new Writer().u16(6).u16(128).u16(0x43).done(),
    );
    expect(marshalled('TPMT_SIG_SCHEME', ownScheme)).toEqual(new Writer().u16(0x10).done());
    const noTicket = new Writer().u16(0x8024).u32(0x40000007).u16(0).done();
    expect(marshalled('TPMT_TK_HASHCHECK', noHashTicket)).toEqual(noTicket);
  });

  it('have room for the longest that the library writes into them', () => {
    const digest = new Uint8Array(64).fill(1);
    const longest: [string, Writer][] = [
      [
        'TPML_DIGEST',
        Array.from({ length: 8 }, () => digest).reduce((list, one) => list.sized(one), new Writer().u32(8)),
      ],
      [
        'TPML_DIGEST_VALUES',
        Array.from({ length: 16 }).reduce<Writer>(
          (list) => list.u16(0xd).bytes(digest),
          new Writer().u32(16),
        ),
      ],
      [
        'TPML_PCR_SELECTION',
        Array.from({ length: 16 }).reduce<Writer>((list) => list.u16(0xb).u8(4).u32(1), new Writer().u32(16)),
      ],
      ['TPM2B_PUBLIC', new Writer().sized(rsaKey(digest))],
      [
        'TPM2B_NV_PUBLIC',
        new Writer().sized(new Writer().u32(0x01000001).u16(0xd).u32(1).sized(digest).u16(1).done()),
      ],
      ['TPMT_SIGNATURE', new Writer().u16(0x14).u16(0xb).sized(new Uint8Array(512).fill(1))],
    ];
    for (const [type, writer] of longest) {
      const wire = writer.done();
      const { touched } = thereAndBack(type, wire);
      const made = structure({ tss }, type as Parameters<typeof structure>[1], wire);
      expect([type, made.byteLength >= touched, made.byteLength - touched < 8]).toEqual([type, true, true]);
      expect(marshalled(type, made)).toEqual(wire);
    }
    const ticket = new Writer().u16(0x8022).u32(0x40000001).sized(digest).done();
    expect(ticketSize - thereAndBack('TPMT_TK_VERIFIED', ticket).touched).toBeOneOf([0, 1, 2, 3]);
  });
});

const rsaKey = (policy: Uint8Array): Uint8Array =>
  new Writer()
    .u16(0x0001)
    .u16(0x000b)
    .u32(1)
    .sized(policy)
    .u16(0x0006)
    .u16(128)
    .u16(0x0043)
    .u16(0x0010)
    .u16(4096)
    .u32(0)
    .sized(new Uint8Array(512).fill(1))
    .done();
