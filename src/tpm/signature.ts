// ECDSA signatures in both of their forms: TPMT_SIGNATURE (TPM 2.0 Library, Part 2, section 11.3.4) and the DER of X.509
// (RFC 3279, section 2.2.3). Pure.
import { algorithm, type HashName, hashAlgorithms, invalid, known, schemes } from './registry.ts';
import { Reader, Writer } from './wire.ts';

export interface EcdsaSignature {
  readonly algorithm: 'ecdsa';
  readonly hash: HashName;
  readonly r: Uint8Array;
  readonly s: Uint8Array;
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

/**
 * A TPMT_SIGNATURE (ECDSA P-256 with SHA-256) from the DER form, as a signer outside a TPM makes it.
 * @throws Failure `tpm-structure-invalid` on anything that is not exactly two positive numbers of at most 32 bytes.
 */
export function signatureFromDer(der: Uint8Array): Uint8Array {
  const body = derContent(der, 0x30);
  if (body.end !== der.length) throw invalid('The signature has bytes after its end.');
  const r = derContent(body.content, 0x02);
  const s = derContent(body.content.subarray(r.end), 0x02);
  if (r.end + s.end !== body.content.length) throw invalid('The signature holds more than two numbers.');
  const wire = new Writer().u16(algorithm.ecdsa).u16(algorithm.sha256);
  return wire.sized(p256Scalar(r.content)).sized(p256Scalar(s.content)).done();
}

/** The content of the DER element of this tag at the start of `bytes`, and where the element ends. Short lengths only. */
function derContent(bytes: Uint8Array, tag: number): { content: Uint8Array; end: number } {
  const [found, length = 0x80] = bytes;
  const end = 2 + length;
  if (found !== tag || length >= 0x80 || end > bytes.length) {
    throw invalid('The signature is not the DER form of an ECDSA P-256 signature.');
  }
  return { content: bytes.subarray(2, end), end };
}

function p256Scalar(integer: Uint8Array): Uint8Array {
  const [first = 0x80, second = 0x80] = integer;
  const minimal = first !== 0 || second >= 0x80;
  if (first >= 0x80 || !minimal) throw invalid('A number of the signature is not in minimal positive form.');
  const magnitude = withoutLeadingZeros(integer);
  if (magnitude.length > 32) throw invalid(`A number of the signature has ${magnitude.length} bytes.`);
  return Buffer.concat([new Uint8Array(32 - magnitude.length), magnitude]);
}

/** At least one byte is left. */
export function withoutLeadingZeros(value: Uint8Array): Uint8Array {
  const first = value.findIndex((byte) => byte !== 0);
  return first < 0 ? Uint8Array.of(0) : value.subarray(first);
}
