// Our readers of what a TPM states and of its keys, against the marshalling library of tpm2-tss: both read the same.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hashAlgorithms } from '../../src/tpm/registry.ts';
import { type PcrBank, pcrBankNames, pcrSelection } from '../../src/tpm/structs.ts';
import { parseAttest, parsePublic } from '../../src/tpm/structures.ts';
import { Writer } from '../../src/tpm/wire.ts';
import { thereAndBack } from './native.ts';

const bytesUpTo = (maxLength: number) => fc.uint8Array({ maxLength });
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const u64 = fc.bigInt(0n, 0xffffffffffffffffn);
const banks = fc.subarray([...pcrBankNames], { minLength: 1 });
const pcrNumbers = fc.subarray(Array.from({ length: 24 }, (_, pcr) => pcr));
const hashId = fc.constantFrom(...hashAlgorithms.keys());
const nameOfHash = (id: number) => hashAlgorithms.get(id)?.name;

/** What each type of attestation holds: how it is written, and what reading it gives. */
const attested = {
  quote: fc.tuple(banks, pcrNumbers, bytesUpTo(64)).map(([list, pcrs, digest]) => ({
    wire: new Writer().bytes(pcrSelection(list, pcrs)).sized(digest).done(),
    read: { quote: { selections: list.map((bank: PcrBank) => ({ bank, pcrs })), digest } },
  })),
  certify: fc.tuple(bytesUpTo(68), bytesUpTo(68)).map(([name, qualifiedName]) => ({
    wire: new Writer().sized(name).sized(qualifiedName).done(),
    read: { certify: { name, qualifiedName } },
  })),
  nv: fc.tuple(bytesUpTo(68), u16, bytesUpTo(2048)).map(([indexName, offset, contents]) => ({
    wire: new Writer().sized(indexName).u16(offset).sized(contents).done(),
    read: { nv: { indexName, offset, contents } },
  })),
  time: fc
    .tuple(u64, u64, u32, u32, fc.boolean(), u64)
    .map(([sinceStart, clock, resets, restarts, safe, firmware]) => ({
      wire: new Writer()
        .u64(sinceStart)
        .u64(clock)
        .u32(resets)
        .u32(restarts)
        .u8(Number(safe))
        .u64(firmware)
        .done(),
      read: { time: { sinceStart } },
    })),
};
const attestTypes = { quote: 0x8018, certify: 0x8017, nv: 0x8014, time: 0x8019 } as const;
const magic = 0xff544347;
const header = fc.record({
  qualifiedSigner: bytesUpTo(68),
  extraData: bytesUpTo(64),
  clock: u64,
  resetCount: u32,
  restartCount: u32,
  safe: fc.boolean(),
  firmwareVersion: u64,
});

describe('attestations that tpm2-tss reads and writes', () => {
  it.each(Object.keys(attestTypes) as (keyof typeof attestTypes)[])(
    'of type %s say the same to us',
    (type) => {
      fc.assert(
        fc.property(header, attested[type], (common, { wire, read }) => {
          const whole = new Writer()
            .u32(magic)
            .u16(attestTypes[type])
            .sized(common.qualifiedSigner)
            .sized(common.extraData)
            .u64(common.clock)
            .u32(common.resetCount)
            .u32(common.restartCount)
            .u8(Number(common.safe))
            .u64(common.firmwareVersion)
            .bytes(wire)
            .done();
          expect(thereAndBack('TPMS_ATTEST', whole).wire).toEqual(whole);
          expect(parseAttest(whole)).toEqual({ magic, type, ...common, ...read });
        }),
      );
    },
  );
});

/** TPMT_SYM_DEF_OBJECT. */
const cipher = fc.option(fc.constantFrom(128, 192, 256), { nil: undefined });
const writeCipher = (writer: Writer, bits: number | undefined) =>
  bits === undefined ? writer.u16(0x0010) : writer.u16(0x0006).u16(bits).u16(0x0043);
const symmetric = (bits: number | undefined) =>
  bits === undefined ? {} : { symmetric: { algorithm: 6, bits, mode: 0x43 } };
const start = fc.tuple(hashId, u32, bytesUpTo(64));
const begun = (type: number, [nameAlg, attributes, authPolicy]: [number, number, Uint8Array]) =>
  new Writer().u16(type).u16(nameAlg).u32(attributes).sized(authPolicy);

const keys = {
  ecc: fc
    .tuple(start, cipher, hashId, fc.constantFrom(['P-256', 3, 32], ['P-384', 4, 48], ['P-521', 5, 66]))
    .chain(([head, bits, hash, [curve, id, size]]) => {
      const coordinate = fc.uint8Array({ maxLength: Number(size) });
      return fc.tuple(coordinate, coordinate).map(([x, y]) => ({
        head,
        wire: writeCipher(begun(0x0023, head), bits)
          .u16(0x0018)
          .u16(hash)
          .u16(Number(id))
          .u16(0x0010)
          .sized(x)
          .sized(y)
          .done(),
        read: {
          type: 'ecc',
          scheme: { algorithm: 'ecdsa', hash: nameOfHash(hash) },
          ...symmetric(bits),
          ecc: { curve, x, y },
        },
      }));
    }),
  rsa: fc
    .tuple(start, cipher, hashId, fc.constantFrom(2048, 3072, 4096), fc.integer({ min: 1, max: 0xffffffff }))
    .chain(([head, bits, hash, keyBits, exponent]) =>
      bytesUpTo(512).map((modulus) => ({
        head,
        wire: writeCipher(begun(0x0001, head), bits)
          .u16(0x0016)
          .u16(hash)
          .u16(keyBits)
          .u32(exponent)
          .sized(modulus)
          .done(),
        read: {
          type: 'rsa',
          scheme: { algorithm: 'rsapss', hash: nameOfHash(hash) },
          ...symmetric(bits),
          rsa: { bits: keyBits, exponent, modulus },
        },
      })),
    ),
  keyedhash: fc
    .tuple(start, fc.option(hashId, { nil: undefined }), bytesUpTo(64))
    .map(([head, hmac, unique]) => {
      const writer = begun(0x0008, head);
      const scheme = hmac === undefined ? writer.u16(0x0010) : writer.u16(0x0005).u16(hmac);
      return {
        head,
        wire: scheme.sized(unique).done(),
        read: {
          type: 'keyedhash',
          scheme: hmac === undefined ? { algorithm: 'any' } : { algorithm: 'hmac', hash: nameOfHash(hmac) },
        },
      };
    }),
};

describe('public areas that tpm2-tss reads and writes', () => {
  it.each(Object.keys(keys) as (keyof typeof keys)[])('of type %s say the same to us', (type) => {
    fc.assert(
      fc.property<[{ head: [number, number, Uint8Array]; wire: Uint8Array; read: object }]>(
        keys[type],
        ({ head: [nameAlg, attributes, authPolicy], wire, read }) => {
          expect(thereAndBack('TPMT_PUBLIC', wire).wire).toEqual(wire);
          const parsed = parsePublic(wire);
          expect(parsed).toMatchObject({ nameAlg: nameOfHash(nameAlg), attributes, authPolicy, ...read });
        },
      ),
    );
  });
});
