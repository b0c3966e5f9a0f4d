// The endorsement key: its certificate, which the TPM's maker put into NV, and the activation of credentials that tie an
// attestation key to it (TCG EK Credential Profile 2.5; TPM 2.0 Library, Part 1, section 24; Part 3, section 12.5).
import { emptyAuth, esysHandle } from './commands.ts';
import type { Connection } from './connection.ts';
import { nvRead } from './nv.ts';
import { createPrimary, describedObjectAt, type TpmObject } from './object.ts';
import { handlesFrom } from './properties.ts';
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

/** Where endorsement keys are persisted (TCG Registry of Reserved TPM 2.0 Handles, section 2.3.1). */
const persistent = { first: 0x8101_0000, last: 0x8101_ffff };
/** A TPM may look for the primes of an RSA key for a minute. */
const slowestKeyMilliseconds = 120_000;
/** Bytes of `unique` at the end of a public area: a modulus, or two coordinates with their lengths. */
const uniqueBytes: Readonly<Record<EndorsementKind, number>> = { rsa: 256, ecc: 68 };

/** The persisted key of this template, else one made anew, which is always the same. Dispose of it. */
export async function endorsementKey(connection: Connection, kind: EndorsementKind): Promise<TpmObject> {
  const { template } = endorsementKeys[kind];
  const fixed = template.subarray(0, template.length - uniqueBytes[kind]);
  const handles = await handlesFrom(connection, persistent.first, [0x81]);
  for (const handle of handles.filter((one) => one <= persistent.last)) {
    const object = await describedObjectAt(connection, handle);
    if (Buffer.compare(object.public.subarray(0, fixed.length), fixed) === 0) return object;
    await object[Symbol.asyncDispose]();
  }
  return await createPrimary(connection, 'endorsement', template, slowestKeyMilliseconds);
}

/** NV indices of the certificate chain (profile 2.5, section 2.2.1.5.2). */
const chainIndices = { first: 0x01c0_0100, last: 0x01c0_01ff };
const longestChain = 8;

/** Certificates in DER; indices hold several, one after the other. At most eight are read. */
export async function endorsementChain(connection: Connection): Promise<Uint8Array[]> {
  const indices = (await handlesFrom(connection, chainIndices.first)).filter(
    (index) => index <= chainIndices.last,
  );
  const parts: Uint8Array[] = [];
  for (const index of indices) parts.push(await nvRead(connection, index));
  return certificatesIn(Buffer.concat(parts));
}

function certificatesIn(bytes: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  let rest = bytes;
  while (rest[0] === 0x30 && rest[1] === 0x82 && found.length < longestChain) {
    const certificate = withoutPadding(rest);
    found.push(certificate);
    rest = rest.subarray(certificate.length);
  }
  return found;
}

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
