// The endorsement key: its certificate, which the TPM's maker put into NV, and the activation of credentials that tie an
// attestation key to it (TCG EK Credential Profile 2.5; TPM 2.0 Library, Part 1, section 24; Part 3, section 12.5).
import { emptyAuth, esysHandle } from './commands.ts';
import type { Connection } from './connection.ts';
import { nvRead } from './nv.ts';
import type { TpmObject } from './object.ts';
import { TpmError } from './responses.ts';
import { startPolicySession } from './session.ts';
import { bufferSizes, sizedBuffer, sizedContent } from './structs.ts';
import { endorsementKeyEcc, endorsementKeyRsa } from './templates.ts';

export type EndorsementKind = 'rsa' | 'ecc';

/** Template and certificate index of each kind (profile 2.5, section 2.2.1.4 and annex B.3). */
export const endorsementKeys: Readonly<
  Record<EndorsementKind, { readonly template: Uint8Array; readonly certificateIndex: number }>
> = {
  rsa: { template: endorsementKeyRsa, certificateIndex: 0x01c0_0002 },
  ecc: { template: endorsementKeyEcc, certificateIndex: 0x01c0_000a },
};

/** The certificate in DER, without what the maker padded it with; undefined where the TPM holds none. */
export async function endorsementCertificate(
  connection: Connection,
  kind: EndorsementKind,
): Promise<Uint8Array | undefined> {
  try {
    return withoutPadding(await nvRead(connection, endorsementKeys[kind].certificateIndex));
  } catch (error) {
    if (error instanceof TpmError && error.code === 'tpm-no-object') return undefined;
    throw error;
  }
}

/** A certificate is a SEQUENCE of 256 to 65,535 bytes: tag, 0x82, and its length. */
function withoutPadding(bytes: Uint8Array): Uint8Array {
  const [tag, form, high = 0, low = 0] = bytes;
  return tag === 0x30 && form === 0x82 ? bytes.subarray(0, 4 + (high << 8) + low) : bytes;
}

/** A credential made for an endorsement key and the Name of another key. */
export interface CredentialBlob {
  /** TPMS_ID_OBJECT: the content of a TPM2B_ID_OBJECT. */
  readonly idObject: Uint8Array;
  /** The content of a TPM2B_ENCRYPTED_SECRET. */
  readonly encryptedSecret: Uint8Array;
}

/**
 * TPM2_ActivateCredential: what the credential's maker hid for `key`, if `key` is in the TPM of the endorsement key. It is
 * the answer to a challenge, at most 32 bytes, and goes back to whoever asked.
 * @throws TpmError `tpm-foreign-blob` or `tpm-refused` where the credential is for another key or another TPM.
 */
export async function activateCredential(
  connection: Connection,
  endorsementKey: TpmObject,
  key: TpmObject,
  credential: CredentialBlob,
): Promise<Uint8Array> {
  await using session = await startPolicySession(connection, endorsementKey, 'policy');
  await session.policySecret('endorsement');
  return await connection.execute(
    'ActivateCredential',
    [
      key.handle,
      endorsementKey.handle,
      emptyAuth[0],
      session.handle,
      esysHandle.none,
      sizedBuffer(credential.idObject, bufferSizes.ID_OBJECT),
      sizedBuffer(credential.encryptedSecret, bufferSizes.ENCRYPTED_SECRET),
    ],
    ([answer = 0n]) => sizedContent(connection, answer),
  );
}
