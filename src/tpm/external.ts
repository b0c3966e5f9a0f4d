// Keys of signers outside the TPM: their public halves as the TPM knows them, by a Name that follows from the key alone, and
// what the TPM does with them (TPM 2.0 Library, Part 3, sections 12.3 and 20.1).
import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { Failure } from '../host/failure.ts';
import { esysHandle, noSessions } from './commands.ts';
import type { Connection } from './connection.ts';
import { publicStructure, type TpmObject, transientObject } from './object.ts';
import { bufferSizes, sizedBuffer, structure, ticketSize } from './structs.ts';
import { nameOf } from './structures.ts';
import { externalSigner } from './templates.ts';

/**
 * TPMT_PUBLIC of an ECDSA P-256 key given as PEM (SubjectPublicKeyInfo).
 * @throws Failure `signer-unsupported` for any other key.
 */
export function publicFromPem(pem: string): Uint8Array {
  const { kty, crv, x, y } = jwkOf(pem);
  if (kty !== 'EC' || crv !== 'P-256' || x === undefined || y === undefined) {
    throw unsupported(`it is ${crv ?? kty ?? 'of another kind'}`);
  }
  return externalSigner(Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url'));
}

/** The TPM Name of that key: what a policy names its signer by. */
export const signerName = (pem: string): Uint8Array => nameOf(publicFromPem(pem));

/** Loads a public key (TPMT_PUBLIC) under the owner hierarchy, so that tickets about its signatures are good. */
export function loadExternal(connection: Connection, publicArea: Uint8Array): Promise<TpmObject> {
  return connection.execute(
    'LoadExternal',
    [...noSessions, null, publicStructure(connection, publicArea), esysHandle.owner],
    ([handle = 0n]) => transientObject(connection, handle, publicArea),
  );
}

/** The TPM's word that a signature verified, for PolicyAuthorize: a TPMT_TK_VERIFIED as the C library holds it. */
export type VerifiedTicket = Uint8Array;

/**
 * Verifies a TPMT_SIGNATURE over a SHA-256 digest.
 * @throws TpmError `tpm-refused` (TPM_RC_SIGNATURE) when it does not verify.
 */
export function verifySignature(
  connection: Connection,
  key: TpmObject,
  sha256: Uint8Array,
  signature: Uint8Array,
): Promise<VerifiedTicket> {
  const inputs = [
    sizedBuffer(sha256, bufferSizes.DIGEST),
    structure(connection, 'TPMT_SIGNATURE', signature),
  ];
  return connection.execute('VerifySignature', [key.handle, ...noSessions, ...inputs], ([ticket = 0n]) =>
    connection.tss.memory.read(ticket, ticketSize),
  );
}

function jwkOf(pem: string): JsonWebKey {
  try {
    return createPublicKey(pem).export({ format: 'jwk' });
  } catch (cause) {
    throw unsupported('it cannot be read as a PEM public key', cause);
  }
}

function unsupported(why: string, cause?: unknown): Failure {
  return new Failure('signer-unsupported', `The signer's key is not ECDSA P-256: ${why}.`, {
    remedy:
      'Give the public half of a P-256 key in PEM: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out signer.pem`, then `openssl pkey -in signer.pem -pubout`.',
    ...(cause === undefined ? {} : { cause }),
  });
}
