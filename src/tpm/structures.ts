// Strict parsers of the TPM 2.0 structures that evidence is made of: TPMS_ATTEST, TPMT_PUBLIC and TPMT_SIGNATURE
// (TPM 2.0 Library, Part 2: Structures, sections 10.12, 11.2 to 11.4, 12.2). Pure: no TPM, no native code.
import { createHash, createPublicKey } from 'node:crypto';
import { Failure } from '../host/failure.ts';
import { Reader } from './wire.ts';

export type HashName = 'sha1' | 'sha256' | 'sha384' | 'sha512';

/** The hash algorithms that are understood, by TPM_ALG_ID (TCG Algorithm Registry), with the digest's size in bytes. */
export const hashAlgorithms: ReadonlyMap<number, { readonly name: HashName; readonly size: number }> =
  new Map([
    [0x0004, { name: 'sha1', size: 20 }],
    [0x000b, { name: 'sha256', size: 32 }],
    [0x000c, { name: 'sha384', size: 48 }],
    [0x000d, { name: 'sha512', size: 64 }],
  ]);

/** Bits of TPMA_OBJECT (Part 2, section 8.3). */
export const objectAttribute = {
  fixedTPM: 1 << 1,
  stClear: 1 << 2,
  fixedParent: 1 << 4,
  sensitiveDataOrigin: 1 << 5,
  userWithAuth: 1 << 6,
  adminWithPolicy: 1 << 7,
  noDA: 1 << 10,
  encryptedDuplication: 1 << 11,
  restricted: 1 << 16,
  decrypt: 1 << 17,
  sign: 1 << 18,
} as const;
export type ObjectAttribute = keyof typeof objectAttribute;

/** Handles of the hierarchies, which stand in for the parent's name in a primary key's qualified name. */
export const hierarchyHandle = { owner: 0x40000001, endorsement: 0x4000000b, platform: 0x4000000c } as const;

export interface PcrSelection {
  readonly bank: HashName;
  /** Ascending. */
  readonly pcrs: number[];
}

export interface Attest {
  readonly magic: number;
  readonly type: 'quote' | 'certify' | 'nv';
  /** Qualified Name of the key that signed. */
  readonly qualifiedSigner: Uint8Array;
  /** The caller's qualifying data, at most 66 bytes. */
  readonly extraData: Uint8Array;
  /** Milliseconds the TPM has been powered, over its life. */
  readonly clock: bigint;
  readonly resetCount: number;
  readonly restartCount: number;
  /** False when a later value of `clock` may already have been reported (after an unclean stop). */
  readonly safe: boolean;
  readonly firmwareVersion: bigint;
  readonly quote?: { readonly selections: PcrSelection[]; readonly digest: Uint8Array };
  readonly certify?: { readonly name: Uint8Array; readonly qualifiedName: Uint8Array };
  readonly nv?: { readonly indexName: Uint8Array; readonly offset: number; readonly contents: Uint8Array };
}

/** TPMT_PUBLIC; each attribute of TPMA_OBJECT is a boolean of that name. */
export interface PublicArea extends Readonly<Record<ObjectAttribute, boolean>> {
  readonly type: 'ecc' | 'rsa' | 'keyedhash';
  readonly nameAlg: HashName;
  /** TPMA_OBJECT as it is. */
  readonly attributes: number;
  readonly authPolicy: Uint8Array;
  readonly scheme: Scheme;
  readonly ecc?: { readonly curve: Curve; readonly x: Uint8Array; readonly y: Uint8Array };
  readonly rsa?: { readonly bits: number; readonly exponent: number; readonly modulus: Uint8Array };
}

type Curve = 'P-256' | 'P-384' | 'P-521';

/** The scheme a key is bound to; `any` is TPM_ALG_NULL, chosen at each use. */
export interface Scheme {
  readonly algorithm: 'any' | 'ecdsa' | 'rsassa' | 'rsapss' | 'rsaes' | 'oaep' | 'ecdh' | 'hmac';
  readonly hash?: HashName;
}

export interface EcdsaSignature {
  readonly algorithm: 'ecdsa';
  readonly hash: HashName;
  readonly r: Uint8Array;
  readonly s: Uint8Array;
}

const magicOfTpm = 0xff544347;
const algNull = 0x0010;
const attestTypes = new Map<number, Attest['type']>([
  [0x8014, 'nv'],
  [0x8017, 'certify'],
  [0x8018, 'quote'],
]);
const objectTypes = new Map<number, PublicArea['type']>([
  [0x0001, 'rsa'],
  [0x0008, 'keyedhash'],
  [0x0023, 'ecc'],
]);
const curves = new Map<number, Curve>([
  [0x0003, 'P-256'],
  [0x0004, 'P-384'],
  [0x0005, 'P-521'],
]);
const coordinateSize: Record<Curve, number> = { 'P-256': 32, 'P-384': 48, 'P-521': 66 };
const schemes = new Map<number, { algorithm: Scheme['algorithm']; hashed: boolean }>([
  [0x0005, { algorithm: 'hmac', hashed: true }],
  [algNull, { algorithm: 'any', hashed: false }],
  [0x0014, { algorithm: 'rsassa', hashed: true }],
  [0x0015, { algorithm: 'rsaes', hashed: false }],
  [0x0016, { algorithm: 'rsapss', hashed: true }],
  [0x0017, { algorithm: 'oaep', hashed: true }],
  [0x0018, { algorithm: 'ecdsa', hashed: true }],
  [0x0019, { algorithm: 'ecdh', hashed: true }],
]);

/**
 * Parses a TPMS_ATTEST (without a size in front) made by quote, certify or NV certify.
 * @throws Failure `tpm-structure-invalid` (or `tpm-wire-truncated`) on anything else, trailing bytes included.
 */
export function parseAttest(bytes: Uint8Array): Attest {
  const reader = new Reader(bytes);
  const magic = reader.u32();
  if (magic !== magicOfTpm)
    throw invalid('The attestation was not made by a TPM: its magic is not ff544347.');
  const type = known(attestTypes, reader.u16(), 'attestation type');
  const common = {
    magic,
    type,
    qualifiedSigner: reader.sized(),
    extraData: reader.sized(),
    clock: reader.u64(),
    resetCount: reader.u32(),
    restartCount: reader.u32(),
    safe: yesNo(reader.u8()),
    firmwareVersion: reader.u64(),
  };
  const attested = readAttested(type, reader);
  reader.end();
  return { ...common, ...attested };
}

function readAttested(type: Attest['type'], reader: Reader): Pick<Attest, 'quote' | 'certify' | 'nv'> {
  if (type === 'quote') return { quote: { selections: readSelections(reader), digest: reader.sized() } };
  if (type === 'certify') return { certify: { name: reader.sized(), qualifiedName: reader.sized() } };
  return { nv: { indexName: reader.sized(), offset: reader.u16(), contents: reader.sized() } };
}

function readSelections(reader: Reader): PcrSelection[] {
  const count = reader.u32();
  if (count > 16) throw invalid(`The attestation selects ${count} PCR banks; at most 16 are possible.`);
  return Array.from({ length: count }, () => {
    const bank = known(hashAlgorithms, reader.u16(), 'PCR bank').name;
    const bitmap = reader.bytes(reader.u8());
    const pcrs = Array.from({ length: bitmap.length * 8 }, (_, pcr) => pcr).filter(
      (pcr) => ((bitmap[pcr >> 3] ?? 0) >> (pcr & 7)) & 1,
    );
    return { bank, pcrs };
  });
}

/**
 * Parses a TPMT_PUBLIC (a TPM2B_PUBLIC without its size) of an ECC, RSA or keyed-hash object.
 * @throws Failure `tpm-structure-invalid` (or `tpm-wire-truncated`) on anything else, trailing bytes included.
 */
export function parsePublic(bytes: Uint8Array): PublicArea {
  const reader = new Reader(bytes);
  const type = known(objectTypes, reader.u16(), 'object type');
  const nameAlg = known(hashAlgorithms, reader.u16(), 'name algorithm').name;
  const attributes = reader.u32();
  const authPolicy = reader.sized();
  const specific = readParameters(type, reader);
  reader.end();
  return { type, nameAlg, attributes, authPolicy, ...specific, ...attributesOf(attributes) };
}

function attributesOf(bits: number): Record<ObjectAttribute, boolean> {
  const has = (name: ObjectAttribute) => (bits & objectAttribute[name]) !== 0;
  return {
    fixedTPM: has('fixedTPM'),
    stClear: has('stClear'),
    fixedParent: has('fixedParent'),
    sensitiveDataOrigin: has('sensitiveDataOrigin'),
    userWithAuth: has('userWithAuth'),
    adminWithPolicy: has('adminWithPolicy'),
    noDA: has('noDA'),
    encryptedDuplication: has('encryptedDuplication'),
    restricted: has('restricted'),
    decrypt: has('decrypt'),
    sign: has('sign'),
  };
}

function readParameters(
  type: PublicArea['type'],
  reader: Reader,
): Pick<PublicArea, 'scheme' | 'ecc' | 'rsa'> {
  if (type === 'keyedhash') {
    const scheme = readScheme(reader);
    reader.sized();
    return { scheme };
  }
  skipSymmetric(reader);
  const scheme = readScheme(reader);
  if (type === 'rsa') {
    const bits = reader.u16();
    const exponent = reader.u32() || 65_537;
    return { scheme, rsa: { bits, exponent, modulus: reader.sized() } };
  }
  const curve = known(curves, reader.u16(), 'curve');
  if (reader.u16() !== algNull) known(hashAlgorithms, reader.u16(), 'key derivation hash');
  return { scheme, ecc: { curve, x: reader.sized(), y: reader.sized() } };
}

function readScheme(reader: Reader): Scheme {
  const { algorithm, hashed } = known(schemes, reader.u16(), 'signing scheme');
  return hashed
    ? { algorithm, hash: known(hashAlgorithms, reader.u16(), 'scheme hash').name }
    : { algorithm };
}

function skipSymmetric(reader: Reader): void {
  if (reader.u16() !== algNull) reader.bytes(4); // key bits and mode
}

/**
 * The public key as PEM (SubjectPublicKeyInfo), for anyone who has no TPM.
 * @throws Failure `tpm-structure-invalid` when the object has no public key or the point is not on its curve.
 */
export function publicKeyPem(publicArea: Uint8Array): string {
  const { ecc, rsa } = parsePublic(publicArea);
  if (ecc === undefined && rsa === undefined) throw invalid('The object is not an asymmetric key.');
  const jwk = ecc === undefined ? rsaJwk(rsa) : eccJwk(ecc);
  try {
    return createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' }).toString();
  } catch (cause) {
    throw invalid('The public area does not hold a valid public key.', cause);
  }
}

function eccJwk({ curve, x, y }: NonNullable<PublicArea['ecc']>) {
  const size = coordinateSize[curve];
  return { kty: 'EC', crv: curve, x: base64url(padded(x, size)), y: base64url(padded(y, size)) };
}

function rsaJwk(rsa: PublicArea['rsa']) {
  const exponent = Buffer.alloc(4);
  exponent.writeUInt32BE(rsa?.exponent ?? 0);
  return {
    kty: 'RSA',
    n: base64url(rsa?.modulus ?? new Uint8Array()),
    e: base64url(withoutLeadingZeros(exponent)),
  };
}

/** The Name of an object: its name algorithm (2 bytes) and the digest of its public area (Part 1, section 16). */
export function nameOf(publicArea: Uint8Array): Uint8Array {
  return named(parsePublic(publicArea).nameAlg, publicArea);
}

/**
 * The Qualified Name of an object below `parent`: the parent's Qualified Name, or the hierarchy a primary key is in
 * (Part 1, section 16). The TPM puts it into every attestation as `qualifiedSigner`.
 */
export function qualifiedName(
  parent: Uint8Array | keyof typeof hierarchyHandle,
  publicArea: Uint8Array,
): Uint8Array {
  const { nameAlg } = parsePublic(publicArea);
  return named(nameAlg, typeof parent === 'string' ? handleName(parent) : parent, nameOf(publicArea));
}

function handleName(hierarchy: keyof typeof hierarchyHandle): Uint8Array {
  const name = Buffer.alloc(4);
  name.writeUInt32BE(hierarchyHandle[hierarchy]);
  return name;
}

function named(algorithm: HashName, ...parts: Uint8Array[]): Uint8Array {
  const id = [...hashAlgorithms].find(([, { name }]) => name === algorithm)?.[0] ?? 0;
  const hash = createHash(algorithm);
  for (const part of parts) hash.update(part);
  return Buffer.concat([Uint8Array.of(id >> 8, id & 0xff), hash.digest()]);
}

/**
 * Parses a TPMT_SIGNATURE made with ECDSA.
 * @throws Failure `tpm-structure-invalid` (or `tpm-wire-truncated`) on any other scheme and on trailing bytes.
 */
export function parseSignature(bytes: Uint8Array): EcdsaSignature {
  const reader = new Reader(bytes);
  const { algorithm } = known(schemes, reader.u16(), 'signature scheme');
  if (algorithm !== 'ecdsa') throw invalid(`The signature is made with ${algorithm}, not with ECDSA.`);
  const hash = known(hashAlgorithms, reader.u16(), 'signature hash').name;
  const r = scalar(reader.sized());
  const s = scalar(reader.sized());
  reader.end();
  return { algorithm, hash, r, s };
}

/** The signature as X.509 and Sigstore write it: DER of SEQUENCE { r INTEGER, s INTEGER }. */
export function signatureDer(signature: Uint8Array): Uint8Array {
  const { r, s } = parseSignature(signature);
  const body = Buffer.concat([derInteger(r), derInteger(s)]);
  const length = body.length < 0x80 ? [body.length] : [0x81, body.length];
  return Buffer.concat([Uint8Array.of(0x30, ...length), body]);
}

function derInteger(value: Uint8Array): Uint8Array {
  const magnitude = withoutLeadingZeros(value);
  const sign = (magnitude[0] ?? 0) & 0x80 ? [0] : [];
  return Buffer.concat([Uint8Array.of(0x02, magnitude.length + sign.length, ...sign), magnitude]);
}

function scalar(value: Uint8Array): Uint8Array {
  if (value.length === 0 || value.length > 66)
    throw invalid(`The signature has a number of ${value.length} bytes.`);
  return value;
}

function withoutLeadingZeros(value: Uint8Array): Uint8Array {
  const first = value.findIndex((byte) => byte !== 0);
  return first < 0 ? Uint8Array.of(0) : value.subarray(first);
}

function padded(value: Uint8Array, size: number): Uint8Array {
  if (value.length > size) throw invalid(`A coordinate has ${value.length} bytes; its curve has ${size}.`);
  return Buffer.concat([new Uint8Array(size - value.length), value]);
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}

function yesNo(value: number): boolean {
  if (value > 1) throw invalid(`A yes-or-no value is ${value}.`);
  return value === 1;
}

function known<T>(table: ReadonlyMap<number, T>, id: number, what: string): T {
  const entry = table.get(id);
  if (entry === undefined)
    throw invalid(`The ${what} 0x${id.toString(16).padStart(4, '0')} is not supported.`);
  return entry;
}

function invalid(message: string, cause?: unknown): Failure {
  return new Failure('tpm-structure-invalid', message, cause === undefined ? {} : { cause });
}
