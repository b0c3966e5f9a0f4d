// A software key that signs whatever it is told to, shaped as TPM evidence: what an attacker without a TPM can make.
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { type ObjectAttribute, objectAttribute, qualifiedName } from '../../src/tpm/structures.ts';
import { Writer } from '../../src/tpm/wire.ts';

export const attestationAttributes: ObjectAttribute[] = [
  'fixedTPM',
  'fixedParent',
  'sensitiveDataOrigin',
  'userWithAuth',
  'restricted',
  'sign',
];

export interface ForgedKey {
  /** TPMT_PUBLIC. */
  readonly public: Uint8Array;
  /** TPMT_SIGNATURE over the SHA-256 of `bytes`. */
  sign(bytes: Uint8Array): Uint8Array;
}

export interface PublicChoices {
  readonly attributes?: readonly ObjectAttribute[];
  /** TPM_ALG_ID. */
  readonly nameAlg?: number;
  readonly schemeHash?: number;
}

export function forgeKey(choices: PublicChoices = {}): ForgedKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  return {
    public: eccPublic(choices, Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')),
    sign: (bytes) => {
      const plain = sign('sha256', bytes, { key: privateKey, dsaEncoding: 'ieee-p1363' });
      return ecdsaSignature(plain.subarray(0, 32), plain.subarray(32));
    },
  };
}

export function eccPublic(choices: PublicChoices, x: Uint8Array, y: Uint8Array): Uint8Array {
  const bits = (choices.attributes ?? attestationAttributes).reduce(
    (all, name) => all | objectAttribute[name],
    0,
  );
  return new Writer()
    .u16(0x0023)
    .u16(choices.nameAlg ?? 0x000b)
    .u32(bits)
    .sized(new Uint8Array())
    .u16(0x0010)
    .u16(0x0018)
    .u16(choices.schemeHash ?? 0x000b)
    .u16(0x0003)
    .u16(0x0010)
    .sized(x)
    .sized(y)
    .done();
}

export function ecdsaSignature(r: Uint8Array, s: Uint8Array, hash = 0x000b): Uint8Array {
  return new Writer().u16(0x0018).u16(hash).sized(r).sized(s).done();
}

export interface QuoteChoices {
  readonly magic?: number;
  /** TPMT_PUBLIC of the key it claims to be signed by, as an endorsement primary key. */
  readonly akPublic: Uint8Array;
  readonly qualifyingData: Uint8Array;
  /** PCRs by bank's TPM_ALG_ID. */
  readonly selections: readonly (readonly [number, readonly number[]])[];
  /** Values in the order of the selection. */
  readonly values: readonly Uint8Array[];
  /** Milliseconds; 1,000 unless said. */
  readonly clock?: bigint;
}

/** TPMS_ATTEST of a quote. */
export function forgeQuote(choices: QuoteChoices): Uint8Array {
  const digest = createHash('sha256').update(Buffer.concat(choices.values)).digest();
  const magic = choices.magic ?? 0xff544347;
  const writer = attestHeader(magic, 0x8018, choices.qualifyingData, choices.akPublic, choices.clock);
  writer.u32(choices.selections.length);
  for (const [bank, pcrs] of choices.selections) {
    const bitmap = new Uint8Array(3);
    for (const pcr of pcrs) bitmap[pcr >> 3] = (bitmap[pcr >> 3] ?? 0) | (1 << (pcr & 7));
    writer.u16(bank).u8(3).bytes(bitmap);
  }
  return writer.sized(digest).done();
}

/** TPMS_ATTEST of a certification. */
export function forgeCertification(
  name: Uint8Array,
  qualifyingData: Uint8Array,
  akPublic: Uint8Array,
): Uint8Array {
  return attestHeader(0xff544347, 0x8017, qualifyingData, akPublic).sized(name).sized(name).done();
}

/** TPMS_ATTEST of the contents of an NV index. */
export function forgeNvCertification(
  indexName: Uint8Array,
  contents: Uint8Array,
  qualifyingData: Uint8Array,
  akPublic: Uint8Array,
): Uint8Array {
  return attestHeader(0xff544347, 0x8014, qualifyingData, akPublic)
    .sized(indexName)
    .u16(0)
    .sized(contents)
    .done();
}

/** The part that attestations of all types begin with: clock in milliseconds, 2 resets, 3 restarts, safe. */
export function attestHeader(
  magic: number,
  type: number,
  qualifyingData: Uint8Array,
  akPublic?: Uint8Array,
  clock = 1000n,
): Writer {
  return new Writer()
    .u32(magic)
    .u16(type)
    .sized(akPublic === undefined ? new Uint8Array(34) : qualifiedName('endorsement', akPublic))
    .sized(qualifyingData)
    .u64(clock)
    .u32(2)
    .u32(3)
    .u8(1)
    .u64(1n);
}
