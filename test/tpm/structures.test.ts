// TPM structures: what a real TPM marshalled, and everything that is not quite that.
import { createPublicKey, verify } from 'node:crypto';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { Failure } from '../../src/host/failure.ts';
import {
  nameOf,
  parseAttest,
  parsePublic,
  parseSignature,
  publicKeyPem,
  qualifiedName,
  signatureDer,
} from '../../src/tpm/structures.ts';
import { Writer } from '../../src/tpm/wire.ts';
import { attestHeader, eccPublic, ecdsaSignature, forgeKey } from '../attestation/forged-evidence.ts';
import { makeRealEvidence, quotedPcrs, type RealEvidence } from '../attestation/real-evidence.ts';

let real: RealEvidence;
beforeAll(async () => {
  real = await makeRealEvidence();
}, 20_000);

const hex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));

describe('attestations of a real TPM', () => {
  it('read as a quote with its qualifying data, selection and clock', () => {
    const attest = parseAttest(real.quote.attest);
    expect(attest.type).toBe('quote');
    expect(attest.magic).toBe(0xff544347);
    expect(hex(attest.extraData)).toBe(hex(real.qualifyingData));
    expect(attest.quote?.selections).toEqual([{ bank: 'sha256', pcrs: quotedPcrs }]);
    expect(attest.quote?.digest).toHaveLength(32);
    expect(attest.clock).toBeGreaterThan(0n);
    expect(attest.firmwareVersion).toBeGreaterThan(0n);
    expect(attest.safe).toBe(true);
  });

  it('read as a quote of two banks', () => {
    const selections = parseAttest(real.twoBankQuote.attest).quote?.selections;
    expect(selections?.map(({ bank }) => bank)).toEqual(['sha1', 'sha256']);
  });

  it('read as a certification that names the certified key', () => {
    const { certify, type } = parseAttest(real.certification.attest);
    expect(type).toBe('certify');
    expect(hex(certify?.name)).toBe(real.signingKey.name);
    expect(hex(certify?.qualifiedName)).toBe(real.signingKey.qualifiedName);
  });

  it('read as an NV certification with what the index holds', () => {
    const { nv, type } = parseAttest(real.nvCertification.attest);
    expect(type).toBe('nv');
    expect(nv?.offset).toBe(0);
    expect(hex(nv?.contents)).toBe(hex(real.nvCertification.contents));
  });

  it('are signed by the qualified name of an endorsement primary key', () => {
    const expected = hex(qualifiedName('endorsement', real.ak.public));
    expect(expected).toBe(real.ak.qualifiedName);
    expect(hex(parseAttest(real.quote.attest).qualifiedSigner)).toBe(expected);
    expect(hex(qualifiedName('owner', real.ak.public))).not.toBe(expected);
  });
});

describe('keys of a real TPM', () => {
  it('have the name that the TPM computed', () => {
    expect(hex(nameOf(real.ak.public))).toBe(real.ak.name);
    expect(hex(nameOf(real.signingKey.public))).toBe(real.signingKey.name);
  });

  it('export as the same PEM that tpm2-tools writes', () => {
    expect(publicKeyPem(real.ak.public)).toBe(real.ak.publicKey);
    expect(publicKeyPem(real.signingKey.public)).toBe(real.signingKey.publicKey);
  });

  it('tell their attributes, scheme and curve', () => {
    const ak = parsePublic(real.ak.public);
    expect(ak).toMatchObject({
      type: 'ecc',
      nameAlg: 'sha256',
      restricted: true,
      sign: true,
      decrypt: false,
    });
    expect(ak).toMatchObject({
      fixedTPM: true,
      fixedParent: true,
      sensitiveDataOrigin: true,
      stClear: false,
    });
    expect(ak.scheme).toEqual({ algorithm: 'ecdsa', hash: 'sha256' });
    expect(ak.ecc?.curve).toBe('P-256');
    expect(parsePublic(real.signingKey.public).restricted).toBe(false);
  });

  it('make signatures whose DER form verifies without a TPM', () => {
    const { attest, signature } = real.quote;
    expect(verify('sha256', attest, real.ak.publicKey, signatureDer(signature))).toBe(true);
    expect(verify('sha256', real.derQuote.attest, real.ak.publicKey, real.derQuote.signature)).toBe(true);
  });
});

describe('structures of other kinds', () => {
  it('read an RSA key, whose exponent 0 stands for 65537', () => {
    const modulus = Buffer.alloc(256, 0xc5);
    const area = new Writer().u16(0x0001).u16(0x000b).u32(0x00050072).sized(new Uint8Array(32));
    area.u16(0x0010).u16(0x0014).u16(0x000b).u16(2048).u32(0).sized(modulus);
    const parsed = parsePublic(area.done());
    expect(parsed).toMatchObject({ type: 'rsa', rsa: { bits: 2048, exponent: 65_537 } });
    expect(parsed.scheme).toEqual({ algorithm: 'rsassa', hash: 'sha256' });
    expect(createPublicKey(publicKeyPem(area.done())).asymmetricKeyDetails?.modulusLength).toBe(2048);
  });

  it('read a storage key, which has a symmetric cipher and no scheme', () => {
    const area = new Writer().u16(0x0023).u16(0x000b).u32(0x00030472).sized(new Uint8Array());
    area.u16(0x0006).u16(128).u16(0x0043).u16(0x0010).u16(0x0003).u16(0x0010);
    const parsed = parsePublic(area.sized(new Uint8Array(32)).sized(new Uint8Array(32)).done());
    expect(parsed).toMatchObject({
      restricted: true,
      decrypt: true,
      noDA: true,
      scheme: { algorithm: 'any' },
    });
  });

  it('read sealed data, which has no public key', () => {
    const area = new Writer().u16(0x0008).u16(0x000b).u32(0x92).sized(new Uint8Array(32)).u16(0x0010);
    const sealed = area.sized(new Uint8Array(32)).done();
    expect(parsePublic(sealed)).toMatchObject({ type: 'keyedhash', adminWithPolicy: true });
    expect(() => publicKeyPem(sealed)).toThrow('not an asymmetric key');
  });
});

describe('malformed structures', () => {
  const qualifyingData = new Uint8Array(32);
  const failure = (work: () => unknown): string => {
    try {
      work();
    } catch (thrown) {
      if (thrown instanceof Failure) return thrown.code;
      throw thrown;
    }
    return 'accepted';
  };

  it('are refused when one byte is missing or one too many', () => {
    const samples: [string, (wire: Uint8Array) => unknown, Uint8Array][] = [
      ['attest', parseAttest, real.quote.attest],
      ['certify', parseAttest, real.certification.attest],
      ['nv', parseAttest, real.nvCertification.attest],
      ['public', parsePublic, real.ak.public],
      ['signature', parseSignature, real.quote.signature],
    ];
    for (const [label, parse, wire] of samples) {
      expect([label, failure(() => parse(wire.subarray(0, -1)))]).toEqual([label, 'tpm-wire-truncated']);
      expect([label, failure(() => parse(Buffer.concat([wire, bytes('00')])))]).toEqual([
        label,
        'tpm-wire-trailing',
      ]);
    }
  });

  it('are refused when a TPM did not make them or would not write them so', () => {
    const invalid = 'tpm-structure-invalid';
    const withMagic = (magic: number) => attestHeader(magic, 0x8018, qualifyingData).done();
    expect(failure(() => parseAttest(withMagic(0xff544348)))).toBe(invalid);
    expect(failure(() => parseAttest(attestHeader(0xff544347, 0x801a, qualifyingData).done()))).toBe(invalid);
    const manyBanks = attestHeader(0xff544347, 0x8018, qualifyingData).u32(0xffffffff).done();
    expect(failure(() => parseAttest(manyBanks))).toBe(invalid);
    const neitherYesNorNo = new Uint8Array(real.quote.attest);
    const safe = 4 + 2 + 2 + 34 + 2 + 32 + 8 + 4 + 4;
    expect(neitherYesNorNo[safe]).toBe(1);
    neitherYesNorNo[safe] = 2;
    expect(failure(() => parseAttest(neitherYesNorNo))).toBe(invalid);
  });

  it('are refused as keys when the point is not on the curve or too long', () => {
    const off = eccPublic({}, new Uint8Array(32).fill(1), new Uint8Array(32).fill(1));
    expect(failure(() => publicKeyPem(off))).toBe('tpm-structure-invalid');
    const long = eccPublic({}, new Uint8Array(33).fill(1), new Uint8Array(32).fill(1));
    expect(failure(() => publicKeyPem(long))).toBe('tpm-structure-invalid');
    const template = eccPublic({}, new Uint8Array(), new Uint8Array());
    expect(failure(() => publicKeyPem(template))).toBe('tpm-structure-invalid');
  });

  it('are refused as signatures of other schemes or with numbers of impossible length', () => {
    const rsassa = new Writer().u16(0x0014).u16(0x000b).sized(new Uint8Array(256)).done();
    expect(failure(() => parseSignature(rsassa))).toBe('tpm-structure-invalid');
    expect(failure(() => parseSignature(ecdsaSignature(new Uint8Array(), new Uint8Array(32))))).toBe(
      'tpm-structure-invalid',
    );
    expect(failure(() => parseSignature(ecdsaSignature(new Uint8Array(32), new Uint8Array(67))))).toBe(
      'tpm-structure-invalid',
    );
  });

  it('never bring down the reader, whatever the bytes', () => {
    const parsers = [parseAttest, parsePublic, parseSignature, publicKeyPem, nameOf, signatureDer];
    const seeds = [real.quote.attest, real.certification.attest, real.ak.public, real.quote.signature];
    const mutated = fc
      .tuple(fc.constantFrom(...seeds), fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 4 }))
      .map(([seed, edits]) => {
        const copy = new Uint8Array(seed);
        for (const [at, value] of edits) copy[at % copy.length] = value;
        return copy;
      });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), mutated), (wire) => {
        for (const parse of parsers) failure(() => parse(wire));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('DER of a signature', () => {
  it('drops leading zeros and keeps numbers positive', () => {
    const der = signatureDer(ecdsaSignature(bytes('000080'), bytes('0000007f')));
    expect(hex(der)).toBe('30070202008002017f');
    expect(hex(signatureDer(ecdsaSignature(bytes('0000'), bytes('01'))))).toBe('3006020100020101');
  });

  it('is long enough in its length for P-521', () => {
    const der = signatureDer(ecdsaSignature(new Uint8Array(66).fill(0x7f), new Uint8Array(66).fill(0x7f)));
    expect(hex(der.subarray(0, 3))).toBe('308188');
    expect(der).toHaveLength(3 + 0x88);
  });

  it('verifies for keys made in software too', () => {
    const key = forgeKey();
    const message = Buffer.from('message');
    expect(verify('sha256', message, publicKeyPem(key.public), signatureDer(key.sign(message)))).toBe(true);
  });
});
