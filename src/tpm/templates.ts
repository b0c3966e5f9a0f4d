// Public areas of the objects this appliance makes (TPM 2.0 Library, Part 2, section 12.2.4: TPMT_PUBLIC). ECC P-256
// throughout; the storage key follows template H-2 of the TCG EK Credential Profile with an empty unique field.
import { PolicyDigest } from './policy-digest.ts';
import { algorithm } from './registry.ts';
import { type ObjectAttribute, objectAttribute } from './structures.ts';
import { Writer } from './wire.ts';

const curveP256 = 0x0003;

const attributes = (...names: ObjectAttribute[]): number =>
  names.reduce((bits, name) => bits | objectAttribute[name], 0);

const ownedKey = ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'userWithAuth', 'noDA'] as const;

/** Storage root key: restricted decryption, AES-128-CFB for its children. */
export const storageRootKey: Uint8Array = eccKey(
  attributes(...ownedKey, 'restricted', 'decrypt'),
  protectsWithAes,
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

/**
 * The public half of a signer outside the TPM: ECDSA P-256 with SHA-256, coordinates of 32 bytes. tpm2-tools gives it the same
 * Name: `tpm2_loadexternal -G ecc:ecdsa-sha256 -a 'userwithauth|sign'`.
 */
export const externalSigner = (x: Uint8Array, y: Uint8Array): Uint8Array =>
  eccKey(attributes('userWithAuth', 'sign'), ecdsaSha256, { x, y });

const endorsementKey = ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'adminWithPolicy'] as const;
const endorsementAttributes = attributes(...endorsementKey, 'restricted', 'decrypt');
/** Handle and, being a hierarchy, Name of the endorsement hierarchy. */
const endorsementName = Uint8Array.of(0x40, 0, 0, 0x0b);
const endorsementPolicy = PolicyDigest.start.secret(endorsementName).value;

/** Endorsement key, ECC P-256: template L-2 of the TCG EK Credential Profile (2.5, annex B.3.4). */
export const endorsementKeyEcc: Uint8Array = eccKey(
  endorsementAttributes,
  protectsWithAes,
  { x: new Uint8Array(32), y: new Uint8Array(32) },
  endorsementPolicy,
);

/** Endorsement key, RSA 2048: template L-1 of the TCG EK Credential Profile (2.5, annex B.3.3). */
export const endorsementKeyRsa: Uint8Array = protectsWithAes(
  new Writer().u16(algorithm.rsa).u16(algorithm.sha256).u32(endorsementAttributes).sized(endorsementPolicy),
)
  .u16(2048)
  .u32(0) // exponent 65537
  .sized(new Uint8Array(256))
  .done();

function eccKey(
  attributeBits: number,
  symmetricAndScheme: (writer: Writer) => Writer,
  unique: { x: Uint8Array; y: Uint8Array } = { x: new Uint8Array(), y: new Uint8Array() },
  authPolicy: Uint8Array = new Uint8Array(),
): Uint8Array {
  const writer = new Writer().u16(algorithm.ecc).u16(algorithm.sha256).u32(attributeBits).sized(authPolicy);
  return symmetricAndScheme(writer)
    .u16(curveP256)
    .u16(algorithm.null) // key derivation
    .sized(unique.x)
    .sized(unique.y)
    .done();
}

/** Children are protected with AES-128-CFB; no scheme. */
function protectsWithAes(writer: Writer): Writer {
  return writer.u16(algorithm.aes).u16(128).u16(algorithm.cfb).u16(algorithm.null);
}

function ecdsaSha256(writer: Writer): Writer {
  return writer.u16(algorithm.null).u16(algorithm.ecdsa).u16(algorithm.sha256);
}
