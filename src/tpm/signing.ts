// What the TPM signs: quotes, certifications, and digests (TPM 2.0 Library, Part 3, sections 18 and 20).
import { emptyAuth, emptyAuths, esysHandle } from './commands.ts';
import type { Connection, Results } from './connection.ts';
import type { TpmObject } from './object.ts';
import {
  bufferSizes,
  noHashTicket,
  ownScheme,
  type PcrBank,
  pcrSelectionStructure,
  sizedBuffer,
  sizedContent,
  wireOf,
} from './structs.ts';
import { signatureDer } from './structures.ts';

/** A statement of the TPM and its signature, as verifiers take them. */
export interface SignedAttest {
  /** TPMS_ATTEST, without a size in front. */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE. */
  readonly signature: Uint8Array;
}

/** Quotes the same PCRs of each bank. `qualifyingData`: at most 64 bytes, repeated in the statement. */
export function quote(
  connection: Connection,
  ak: TpmObject,
  qualifyingData: Uint8Array,
  pcrs: readonly number[],
  banks: readonly PcrBank[] = ['sha256'],
): Promise<SignedAttest> {
  return connection.execute(
    'Quote',
    [
      ak.handle,
      ...emptyAuth,
      sizedBuffer(qualifyingData, bufferSizes.DATA),
      ownScheme,
      pcrSelectionStructure(connection, banks, pcrs),
    ],
    signedAttest(connection),
  );
}

/** States that `object` is loaded in this TPM, by Name. */
export function certify(
  connection: Connection,
  object: TpmObject,
  ak: TpmObject,
  qualifyingData: Uint8Array,
): Promise<SignedAttest> {
  return connection.execute(
    'Certify',
    [object.handle, ak.handle, ...emptyAuths, sizedBuffer(qualifyingData, bufferSizes.DATA), ownScheme],
    signedAttest(connection),
  );
}

/** States the TPM's clock and counts (section 18.7); the endorsement hierarchy allows it. */
export function getTime(
  connection: Connection,
  ak: TpmObject,
  qualifyingData: Uint8Array,
): Promise<SignedAttest> {
  return connection.execute(
    'GetTime',
    [
      esysHandle.endorsement,
      ak.handle,
      ...emptyAuths,
      sizedBuffer(qualifyingData, bufferSizes.DATA),
      ownScheme,
    ],
    signedAttest(connection),
  );
}

/** ECDSA over a SHA-256 digest, in DER. */
export function sign(connection: Connection, key: TpmObject, sha256: Uint8Array): Promise<Uint8Array> {
  return connection.execute(
    'Sign',
    [key.handle, ...emptyAuth, sizedBuffer(sha256, bufferSizes.DIGEST), ownScheme, noHashTicket],
    ([signature = 0n]) => signatureDer(wireOf(connection, 'TPMT_SIGNATURE', signature)),
  );
}

/** Reads the two results that every attesting command has. */
export const signedAttest =
  (connection: Connection) =>
  ([attest = 0n, signature = 0n]: Results): SignedAttest => ({
    attest: sizedContent(connection, attest),
    signature: wireOf(connection, 'TPMT_SIGNATURE', signature),
  });
