// The endorsement of this node's TPM, as provisioning notes it: endorsement keys with the certificates from NV, whether their chain
// ends at a pinned CA, and whether the attestation key is in that very TPM. What comes of it is this node's word about itself: it
// decides `assurance.tpm` here, and proves nothing to others (docs/attestation.md).
import { answers, makeCredential, newChallenge } from '../attestation/credential.ts';
import { bestKey, type TpmKind, tpmKindOf } from '../attestation/endorsement.ts';
import type { Endorsement, EndorsementKey, NodeEndorsement } from '../attestation/endorsement-format.ts';
import { type Appraisal, failed, proven } from '../attestation/verdict.ts';
import type { Tpm } from '../tpm/context.ts';
import type { EndorsementKind } from '../tpm/endorsement.ts';
import { TpmError } from '../tpm/responses.ts';
import { readCertificates } from './pins.ts';

/**
 * For provisioning: the whole of it. `ekCa`: a directory of CA certificates; "" for none, and then no chain is proven.
 * The same TPM, certificates and day give the same result, so that a repeated provisioning changes nothing.
 * @throws Failure `ek-ca-missing`, `ek-ca-invalid`; TpmError.
 */
export async function endorse(
  tpm: Tpm,
  options: { readonly akHandle: number; readonly ekCa: string; readonly at: Date },
): Promise<NodeEndorsement> {
  const { endorsement, key, chain } = await endorsementOf(tpm, options.ekCa, options.at);
  return {
    ...endorsement,
    kind: key.kind,
    chain,
    activation: await selfActivation(tpm, options.akHandle, key.kind),
  };
}

/** What the TPM holds of endorsement keys and certificates, and which of the keys the pinned CAs say the most about. */
export async function endorsementOf(
  tpm: Tpm,
  ekCa: string,
  at: Date,
): Promise<{ readonly endorsement: Endorsement; readonly key: EndorsementKey; readonly chain: Appraisal }> {
  const pinned = ekCa === '' ? [] : readCertificates(ekCa);
  const endorsement = await readEndorsement(tpm);
  const { key, result, detail } = bestKey(endorsement, { pinned, at });
  return { endorsement, key, chain: { result, detail } };
}

/** Keys that have a certificate in NV, recreated from their templates; without any, the ECC one, which is quickly made. */
export async function readEndorsement(tpm: Tpm): Promise<Endorsement> {
  const certified: [EndorsementKind, Uint8Array][] = [];
  for (const kind of ['ecc', 'rsa'] as const) {
    const certificate = await tpm.endorsementCertificate(kind);
    if (certificate !== undefined) certified.push([kind, certificate]);
  }
  const wanted: [EndorsementKind, Uint8Array | null][] = certified.length > 0 ? certified : [['ecc', null]];
  const keys: EndorsementKey[] = [];
  for (const [kind, certificate] of wanted) {
    await using key = await tpm.endorsementKey(kind);
    keys.push({ kind, public: base64(key.public), certificate: certificate && base64(certificate) });
  }
  return { keys, intermediates: (await tpm.endorsementChain()).map(base64) };
}

/** Credential activation with both sides here: whether the attestation key is in the TPM of that endorsement key. */
export async function selfActivation(tpm: Tpm, akHandle: number, kind: EndorsementKind): Promise<Appraisal> {
  const challenge = newChallenge();
  await using ek = await tpm.endorsementKey(kind);
  await using ak = await tpm.at(akHandle);
  try {
    const answer = await tpm.activateCredential(ek, ak, makeCredential(ek.public, ak.name, challenge));
    return answers(challenge, answer)
      ? proven('The TPM of the endorsement key holds the attestation key.')
      : failed('The TPM answered the challenge with something else.');
  } catch (error) {
    if (!(error instanceof TpmError) || error.layer !== 'tpm') throw error;
    return failed(`The TPM did not activate a credential for the attestation key: ${error.message}`);
  }
}

/** What this node may say of its own TPM. `simulator`: what the TPM, or the way to it, says. */
export function kindOf(endorsement: NodeEndorsement, simulator: boolean): TpmKind {
  const certificate = endorsement.keys.find(({ kind }) => kind === endorsement.kind)?.certificate ?? null;
  return tpmKindOf({ simulator, certificate, chain: endorsement.chain, activation: endorsement.activation });
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
