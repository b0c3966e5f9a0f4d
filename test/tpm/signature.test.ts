import { generateKeyPairSync, sign, verify } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Failure } from '../../src/host/failure.ts';
import { parseSignature, signatureDer, signatureFromDer } from '../../src/tpm/signature.ts';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

describe('a signature made outside a TPM', () => {
  it('is the same after the way to TPMT_SIGNATURE and back, short numbers included', () => {
    // About one signature in 128 has a number with leading zeros.
    for (let round = 0; round < 300; round++) {
      const message = Buffer.from(`message ${round}`);
      const der = sign('sha256', message, privateKey);
      const wire = signatureFromDer(der);
      expect(parseSignature(wire)).toMatchObject({ algorithm: 'ecdsa', hash: 'sha256' });
      expect(Buffer.compare(signatureDer(wire), der)).toBe(0);
    }
    const der = sign('sha256', Buffer.from('message'), privateKey);
    expect(verify('sha256', Buffer.from('message'), publicKey, signatureDer(signatureFromDer(der)))).toBe(
      true,
    );
  });

  it.each([
    ['nothing', ''],
    ['another tag', '3106020101020101'],
    ['a byte too many', '300602010102010100'],
    ['a third number', '3009020101020101020101'],
    ['one number', '3003020101'],
    ['a negative number', '3006020181020101'],
    ['a number with a needless zero', '300702020001020101'],
    ['an empty number', '30050200020101'],
    ['a number of 33 bytes', `3026022101${'00'.repeat(32)}020101`],
    ['a length in long form', '308106020101020101'],
  ])('is refused as %s', (_, der) => {
    expect(() => signatureFromDer(Buffer.from(der, 'hex'))).toThrow(
      expect.objectContaining({ code: 'tpm-structure-invalid' }),
    );
  });

  it('is never a crash, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        try {
          expect(Buffer.compare(signatureDer(signatureFromDer(bytes)), bytes)).toBe(0);
        } catch (error) {
          expect(error).toBeInstanceOf(Failure);
        }
      }),
    );
  });
});
