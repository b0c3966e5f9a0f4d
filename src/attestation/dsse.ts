// The Dead Simple Signing Envelope, protocol 1: which bytes are signed, and the name of the key that signed them.
// https://github.com/secure-systems-lab/dsse/blob/master/protocol.md

import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { Failure } from '../host/failure.ts';

/** The bytes a DSSE signature covers. The signer hashes them with SHA-256. */
export function preAuthEncoding(payloadType: string, payload: Uint8Array): Uint8Array {
  const type = Buffer.from(payloadType, 'utf8');
  return Buffer.concat([
    Buffer.from(`DSSEv1 ${type.length} ${payloadType} ${payload.length} `, 'utf8'),
    payload,
  ]);
}

/** Reads a P-256 public key (PEM, SPKI), the only kind the signing key of a node can be. */
export function readSigningKey(publicKeyPem: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey(publicKeyPem);
  } catch (cause) {
    throw new Failure('signing-key-invalid', 'The public signing key is not a PEM public key.', { cause });
  }
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw new Failure('signing-key-invalid', 'The public signing key is not an ECDSA key on P-256.');
  }
  return key;
}

/**
 * The key's name: `SHA256:` and the unpadded base64 of the SHA-256 of its SSH wire form (RFC 5656, section 3.1), as
 * `ssh-keygen -l` prints it. Go verifiers skip a DSSE signature whose keyid is neither this nor empty.
 */
export function sshFingerprint(key: KeyObject): string {
  const { x = '', y = '' } = key.export({ format: 'jwk' });
  const point = Buffer.concat([Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
  const wire = [Buffer.from('ecdsa-sha2-nistp256'), Buffer.from('nistp256'), point].map(withLength);
  const digest = createHash('sha256').update(Buffer.concat(wire)).digest('base64');
  return `SHA256:${digest.replace(/=+$/, '')}`;
}

function withLength(field: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(field.length);
  return Buffer.concat([length, field]);
}

/**
 * The bytes whose signature proves to Fulcio that we hold the key: the identity token's subject. The node signs them
 * beforehand, so the courier needs no signing oracle. A subject that could be read as a DSSE encoding is refused.
 */
export function fulcioChallenge(subject: string): Uint8Array {
  if (!/^[\x21-\x7e]{1,512}$/.test(subject)) {
    throw new Failure(
      'sigstore-subject-invalid',
      'The subject of the Sigstore identity must be 1 to 512 printable ASCII characters without spaces.',
      {
        remedy: 'Correct the subject in the configuration: it is the `email` or `sub` of the identity token.',
      },
    );
  }
  return Buffer.from(subject, 'utf8');
}
