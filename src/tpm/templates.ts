// Public areas of the objects this appliance makes (TPM 2.0 Library, Part 2, section 12.2.4: TPMT_PUBLIC). ECC P-256
// throughout; the storage key follows template H-2 of the TCG EK Credential Profile with an empty unique field.
import { type ObjectAttribute, objectAttribute } from './structures.ts';
import { Writer } from './wire.ts';

/** TPM_ALG_ID (TCG Algorithm Registry). */
export const algorithm = {
  sha1: 0x0004,
  aes: 0x0006,
  keyedHash: 0x0008,
  sha256: 0x000b,
  sha384: 0x000c,
  null: 0x0010,
  ecdsa: 0x0018,
  ecc: 0x0023,
  cfb: 0x0043,
} as const;
const curveP256 = 0x0003;

const attributes = (...names: ObjectAttribute[]): number =>
  names.reduce((bits, name) => bits | objectAttribute[name], 0);

const ownedKey = ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'userWithAuth', 'noDA'] as const;

/** Storage root key: restricted decryption, AES-128-CFB for its children. */
export const storageRootKey: Uint8Array = eccKey(attributes(...ownedKey, 'restricted', 'decrypt'), (writer) =>
  writer.u16(algorithm.aes).u16(128).u16(algorithm.cfb).u16(algorithm.null),
);

/** Attestation key: restricted, so it signs only what the TPM itself states. Belongs under the endorsement hierarchy. */
export const attestationKey: Uint8Array = eccKey(attributes(...ownedKey, 'restricted', 'sign'), ecdsaSha256);

/** Unrestricted signing key: ECDSA over any SHA-256 digest. */
export const signingKey: Uint8Array = eccKey(attributes(...ownedKey, 'sign'), ecdsaSha256);

/**
 * Sealed data that only a session satisfying `authPolicy` (a SHA-256 policy digest) opens. No lockout counts against
 * it: no PIN guards it, and a counter that power cuts raise would lock the node out.
 */
export function sealedData(authPolicy: Uint8Array): Uint8Array {
  return new Writer()
    .u16(algorithm.keyedHash)
    .u16(algorithm.sha256)
    .u32(attributes('fixedTPM', 'fixedParent', 'adminWithPolicy', 'noDA'))
    .sized(authPolicy)
    .u16(algorithm.null)
    .sized(new Uint8Array())
    .done();
}

function eccKey(attributeBits: number, symmetricAndScheme: (writer: Writer) => Writer): Uint8Array {
  const writer = new Writer()
    .u16(algorithm.ecc)
    .u16(algorithm.sha256)
    .u32(attributeBits)
    .sized(new Uint8Array());
  return symmetricAndScheme(writer)
    .u16(curveP256)
    .u16(algorithm.null) // key derivation
    .sized(new Uint8Array()) // unique x
    .sized(new Uint8Array()) // unique y
    .done();
}

function ecdsaSha256(writer: Writer): Writer {
  return writer.u16(algorithm.null).u16(algorithm.ecdsa).u16(algorithm.sha256);
}
