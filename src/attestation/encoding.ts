// The encodings that attestation documents share: each value has one spelling, so that a document's digest has one meaning.
import { z } from '../host/zod.ts';

/** Canonical base64 of at least one byte. */
export const base64 = z
  .string()
  .min(1)
  .refine((text) => Buffer.from(text, 'base64').toString('base64') === text, 'expected canonical base64');
export const hex = z.string().regex(/^(?:[0-9a-f]{2})+$/, 'expected lower-case hexadecimal');
export const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hexadecimal digits');
export const pcrIndex = z.string().regex(/^(?:\d|1\d|2[0-3])$/, 'expected a PCR number, 0 to 23');
export const time = z.iso.datetime({ offset: true });
/** TPM clock in milliseconds: 64 bits do not fit a JSON number. */
export const milliseconds = z
  .string()
  .regex(/^(?:0|[1-9]\d{0,19})$/, 'expected a decimal number')
  .refine((digits) => BigInt(digits) < 2n ** 64n, 'expected a number of 64 bits');
