// The public area of an NV index and the Name that follows from it (TPM 2.0 Library, Part 2, section 13; Part 1, section
// 16). The Name covers every attribute, "written" included, so an index of another kind at the same handle has another.
// Pure.
import { createHash } from 'node:crypto';
import { algorithm, type HashName, hashAlgorithms, invalid, known } from './registry.ts';
import { Reader, Writer } from './wire.ts';

export type NvKind = 'ordinary' | 'counter' | 'bits' | 'extend' | 'pinFail' | 'pinPass';

/** Bits of TPMA_NV, without the four that tell the kind. */
export const nvAttribute = {
  ppWrite: 2 ** 0,
  ownerWrite: 2 ** 1,
  authWrite: 2 ** 2,
  policyWrite: 2 ** 3,
  policyDelete: 2 ** 10,
  writeLocked: 2 ** 11,
  writeAll: 2 ** 12,
  writeDefine: 2 ** 13,
  writeStClear: 2 ** 14,
  globalLock: 2 ** 15,
  ppRead: 2 ** 16,
  ownerRead: 2 ** 17,
  authRead: 2 ** 18,
  policyRead: 2 ** 19,
  noDA: 2 ** 25,
  orderly: 2 ** 26,
  clearStClear: 2 ** 27,
  readLocked: 2 ** 28,
  written: 2 ** 29,
  platformCreate: 2 ** 30,
  readStClear: 2 ** 31,
} as const;
export type NvAttribute = keyof typeof nvAttribute;
const attributeNames = Object.keys(nvAttribute) as NvAttribute[];

/** TPM_NT. */
const kinds = new Map<number, NvKind>([
  [0x0, 'ordinary'],
  [0x1, 'counter'],
  [0x2, 'bits'],
  [0x4, 'extend'],
  [0x8, 'pinFail'],
  [0x9, 'pinPass'],
]);
const kindShift = 4;

export interface NvPublic {
  readonly index: number;
  readonly nameAlg: HashName;
  readonly kind: NvKind;
  /** In the order of the bits. */
  readonly attributes: readonly NvAttribute[];
  /** Empty where there is none. */
  readonly authPolicy: Uint8Array;
  readonly byteLength: number;
}

/** TPMS_NV_PUBLIC of an index whose Name is made with SHA-256. */
export function marshalNvPublic(area: Omit<NvPublic, 'nameAlg'>): Uint8Array {
  const kind = [...kinds].find(([, name]) => name === area.kind)?.[0] ?? 0;
  const bits = area.attributes.reduce((sum, name) => sum + nvAttribute[name], kind << kindShift);
  const writer = new Writer().u32(area.index).u16(algorithm.sha256).u32(bits);
  return writer.sized(area.authPolicy).u16(area.byteLength).done();
}

/**
 * Parses a TPMS_NV_PUBLIC, without a size in front.
 * @throws Failure `tpm-structure-invalid` (or `tpm-wire-truncated`) on anything else, trailing bytes included.
 */
export function parseNvPublic(bytes: Uint8Array): NvPublic {
  const reader = new Reader(bytes);
  const index = reader.u32();
  if (index >>> 24 !== 0x01) throw invalid(`0x${index.toString(16)} is not the handle of an NV index.`);
  const nameAlg = known(hashAlgorithms, reader.u16(), 'name algorithm').name;
  const bits = reader.u32();
  const area = {
    index,
    nameAlg,
    kind: known(kinds, (bits >>> kindShift) & 0xf, 'kind of NV index'),
    attributes: attributeNames.filter((name) => (bits & nvAttribute[name]) !== 0),
    authPolicy: reader.sized(),
    byteLength: reader.u16(),
  };
  reader.end();
  return area;
}

/** The Name of an index: its name algorithm (2 bytes) and the digest of its public area. */
export function nvNameOf(area: Uint8Array): Uint8Array {
  const { nameAlg } = parseNvPublic(area);
  return Buffer.concat([area.subarray(4, 6), createHash(nameAlg).update(area).digest()]);
}

export interface NvDefinition {
  readonly attributes: NvKind;
  /** 8 for a counter, 32 for an extend index (SHA-256). */
  readonly byteLength: number;
  /** Who may do what; by default the owner and whoever has the index's (empty) authorization, no lockout counted. */
  readonly access?: readonly NvAttribute[];
  /** For `policyRead`, `policyWrite` and `policyDelete`. */
  readonly authPolicy?: Uint8Array;
}

/** Access where a definition names none. */
export const ownerAndAuth: readonly NvAttribute[] = [
  'ownerWrite',
  'authWrite',
  'ownerRead',
  'authRead',
  'noDA',
];

/** TPMS_NV_PUBLIC of an index as it is defined, or as it is once it was written. */
export function definedArea(index: number, definition: NvDefinition, written = false): Uint8Array {
  const access = definition.access ?? ownerAndAuth;
  return marshalNvPublic({
    index,
    kind: definition.attributes,
    attributes: written ? [...access, 'written'] : access,
    authPolicy: definition.authPolicy ?? new Uint8Array(),
    byteLength: definition.byteLength,
  });
}
