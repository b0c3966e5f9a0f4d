// Numbers of the TCG Algorithm Registry that this program understands, and how an unknown one is told. Pure.
import { Failure } from '../host/failure.ts';

/** TPM_ALG_ID (TCG Algorithm Registry). */
export const algorithm = {
  rsa: 0x0001,
  sha1: 0x0004,
  aes: 0x0006,
  keyedHash: 0x0008,
  sha256: 0x000b,
  sha384: 0x000c,
  sha512: 0x000d,
  null: 0x0010,
  ecdsa: 0x0018,
  ecc: 0x0023,
  cfb: 0x0043,
} as const;
export type HashName = 'sha1' | 'sha256' | 'sha384' | 'sha512';

/** The hash algorithms that are understood, by TPM_ALG_ID (TCG Algorithm Registry), with the digest's size in bytes. */
export const hashAlgorithms: ReadonlyMap<number, { readonly name: HashName; readonly size: number }> =
  new Map([
    [0x0004, { name: 'sha1', size: 20 }],
    [0x000b, { name: 'sha256', size: 32 }],
    [0x000c, { name: 'sha384', size: 48 }],
    [0x000d, { name: 'sha512', size: 64 }],
  ]);

export type Curve = 'P-256' | 'P-384' | 'P-521';

/** The scheme a key is bound to; `any` is TPM_ALG_NULL, chosen at each use. */
export interface Scheme {
  readonly algorithm: 'any' | 'ecdsa' | 'rsassa' | 'rsapss' | 'rsaes' | 'oaep' | 'ecdh' | 'hmac';
  readonly hash?: HashName;
}

export const curves = new Map<number, Curve>([
  [0x0003, 'P-256'],
  [0x0004, 'P-384'],
  [0x0005, 'P-521'],
]);
export const coordinateSize: Record<Curve, number> = { 'P-256': 32, 'P-384': 48, 'P-521': 66 };
export const schemes = new Map<number, { algorithm: Scheme['algorithm']; hashed: boolean }>([
  [0x0005, { algorithm: 'hmac', hashed: true }],
  [algorithm.null, { algorithm: 'any', hashed: false }],
  [0x0014, { algorithm: 'rsassa', hashed: true }],
  [0x0015, { algorithm: 'rsaes', hashed: false }],
  [0x0016, { algorithm: 'rsapss', hashed: true }],
  [0x0017, { algorithm: 'oaep', hashed: true }],
  [0x0018, { algorithm: 'ecdsa', hashed: true }],
  [0x0019, { algorithm: 'ecdh', hashed: true }],
]);

/** @throws Failure `tpm-structure-invalid` for a number that is not in the table. */
export function known<T>(table: ReadonlyMap<number, T>, id: number, what: string): T {
  const entry = table.get(id);
  if (entry === undefined)
    throw invalid(`The ${what} 0x${id.toString(16).padStart(4, '0')} is not supported.`);
  return entry;
}

export function invalid(message: string, cause?: unknown): Failure {
  return new Failure('tpm-structure-invalid', message, cause === undefined ? {} : { cause });
}
