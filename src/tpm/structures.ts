// Strict parsers of the TPM 2.0 structures that evidence is made of: TPMS_ATTEST and TPMT_PUBLIC
// (TPM 2.0 Library, Part 2: Structures, sections 10.12, 11.2 to 11.4, 12.2). Pure: no TPM, no native code.
import { createHash, createPublicKey } from 'node:crypto';
import {
  algorithm,
  type Curve,
  coordinateSize,
  curves,
  type HashName,
  hashAlgorithms,
  invalid,
  known,
  type Scheme,
  schemes,
} from './registry.ts';
import { withoutLeadingZeros } from './signature.ts';
import { Reader } from './wire.ts';

export { type HashName, hashAlgorithms, type Scheme } from './registry.ts';
export { parseSignature, signatureDer } from './signature.ts';

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
  readonly type: 'quote' | 'certify' | 'nv' | 'time';
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
  /** TPMS_TIME_ATTEST_INFO; the rest of it is said above too. */
  readonly time?: { readonly sinceStart: bigint };
}

/** TPMT_PUBLIC; each attribute of TPMA_OBJECT is a boolean of that name. */
export interface PublicArea extends Readonly<Record<ObjectAttribute, boolean>> {
  readonly type: 'ecc' | 'rsa' | 'keyedhash';
  readonly nameAlg: HashName;
  /** TPMA_OBJECT as it is. */
  readonly attributes: number;
  readonly authPolicy: Uint8Array;
  readonly scheme: Scheme;
  /** Of a storage key: what protects its children, by TPM_ALG_ID. */
  readonly symmetric?: { readonly algorithm: number; readonly bits: number; readonly mode: number };
  readonly ecc?: { readonly curve: Curve; readonly x: Uint8Array; readonly y: Uint8Array };
  readonly rsa?: { readonly bits: number; readonly exponent: number; readonly modulus: Uint8Array };
}

const magicOfTpm = 0xff544347;
const attestTypes = new Map<number, Attest['type']>([
  [0x8014, 'nv'],
  [0x8017, 'certify'],
  [0x8018, 'quote'],
  [0x8019, 'time'],
]);
const objectTypes = new Map<number, PublicArea['type']>([
  [0x0001, 'rsa'],
  [0x0008, 'keyedhash'],
  [0x0023, 'ecc'],
]);
/**
 * Parses a TPMS_ATTEST (without a size in front) made by quote, certify, NV certify or get time.
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

function readAttested(
  type: Attest['type'],
  reader: Reader,
): Pick<Attest, 'quote' | 'certify' | 'nv' | 'time'> {
  if (type === 'quote') return { quote: { selections: readSelections(reader), digest: reader.sized() } };
  if (type === 'certify') return { certify: { name: reader.sized(), qualifiedName: reader.sized() } };
  if (type === 'time') return { time: readTime(reader) };
  return { nv: { indexName: reader.sized(), offset: reader.u16(), contents: reader.sized() } };
}

function readTime(reader: Reader): NonNullable<Attest['time']> {
  const sinceStart = reader.u64();
  reader.bytes(17); // clock, both counts, safe: the same as in the header, where they may be obfuscated
  reader.bytes(8); // firmware version
  return { sinceStart };
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
): Pick<PublicArea, 'scheme' | 'symmetric' | 'ecc' | 'rsa'> {
  if (type === 'keyedhash') {
    const scheme = readScheme(reader);
    reader.sized();
    return { scheme };
  }
  const cipher = readSymmetric(reader);
  const scheme = readScheme(reader);
  const common = cipher === undefined ? { scheme } : { scheme, symmetric: cipher };
  if (type === 'rsa') {
    const bits = reader.u16();
    const exponent = reader.u32() || 65_537;
    return { ...common, rsa: { bits, exponent, modulus: reader.sized() } };
  }
  const curve = known(curves, reader.u16(), 'curve');
  if (reader.u16() !== algorithm.null) known(hashAlgorithms, reader.u16(), 'key derivation hash');
  return { ...common, ecc: { curve, x: reader.sized(), y: reader.sized() } };
}

function readScheme(reader: Reader): Scheme {
  const { algorithm, hashed } = known(schemes, reader.u16(), 'signing scheme');
  return hashed
    ? { algorithm, hash: known(hashAlgorithms, reader.u16(), 'scheme hash').name }
    : { algorithm };
}

function readSymmetric(reader: Reader): PublicArea['symmetric'] {
  const id = reader.u16();
  return id === algorithm.null ? undefined : { algorithm: id, bits: reader.u16(), mode: reader.u16() };
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
