// A Fulcio certificate for a key that is elsewhere: the node signed the challenge and the statement beforehand.
// https://github.com/sigstore/fulcio/blob/main/docs/how-certificate-issuing-works.md

import { X509Certificate } from 'node:crypto';
import { FulcioSigner, type Signer } from '@sigstore/sign';
import { asking, misconfigured } from './countersign-failure.ts';
import { fulcioChallenge, preAuthEncoding, readSigningKey } from './dsse.ts';
import type { SigstoreBundle } from './sigstore-bundle.ts';

/** The node's signature over `fulcioChallenge(subject)`, made beforehand. */
export interface ProofOfPossession {
  readonly subject: string;
  readonly signatureDer: Uint8Array;
}

export interface CertificateRequest {
  readonly publicKeyPem: string;
  readonly proofOfPossession: ProofOfPossession | null;
  /** OIDC token for Fulcio, from a credential file of the courier. Never shown. */
  readonly identityToken?: string | undefined;
  /** For each request by itself. */
  readonly timeoutMilliseconds: number;
}

/** Has Fulcio certify the node's key. Throws a `CountersignFailure`. */
export async function certify(
  url: string,
  pending: SigstoreBundle,
  request: CertificateRequest,
): Promise<X509Certificate> {
  const proof = request.proofOfPossession;
  const token = request.identityToken?.trim();
  if (proof === null || token === undefined) {
    throw misconfigured(
      'fulcio-unprepared',
      `Fulcio needs ${proof === null ? 'a proof of possession from the node' : 'an identity token'}, and there is none.`,
      'Give the courier an identity token and the node its Sigstore subject, or leave Fulcio out.',
    );
  }
  if (tokenSubject(token) !== proof.subject) {
    throw misconfigured(
      'identity-token-mismatch',
      'The identity token is not for the subject whose possession the node proved.',
      'Give the courier a token for the Sigstore subject in the node’s configuration.',
    );
  }
  const { payload, payloadType } = pending.dsseEnvelope;
  const signed = Buffer.from(preAuthEncoding(payloadType, Buffer.from(payload, 'base64')));
  const signer = new FulcioSigner({
    fulcioBaseURL: url,
    identityProvider: { getToken: async () => token },
    keyHolder: preparedSignatures(pending, signed, proof, request.publicKeyPem),
    timeout: request.timeoutMilliseconds,
    retry: 0,
  });
  return asking('fulcio', token, async () => {
    const { key } = await signer.sign(signed);
    const certificate = new X509Certificate(key.$case === 'x509Certificate' ? key.certificate : '');
    if (certificate.publicKey.equals(readSigningKey(request.publicKeyPem))) return certificate;
    throw new Error('it issued a certificate for another key');
  });
}

/** A key holder that holds no key: it has the node's two signatures, and refuses whatever else it is asked. */
export function preparedSignatures(
  pending: SigstoreBundle,
  signed: Uint8Array,
  proof: ProofOfPossession,
  publicKeyPem: string,
): Signer {
  const key = { $case: 'publicKey', publicKey: publicKeyPem } as const;
  const prepared = [
    { data: fulcioChallenge(proof.subject), signature: Buffer.from(proof.signatureDer) },
    { data: signed, signature: Buffer.from(pending.dsseEnvelope.signatures[0].sig, 'base64') },
  ];
  return {
    async sign(data) {
      const match = prepared.find((signature) => data.equals(signature.data));
      if (match === undefined) throw new Error('it asked for a signature that the node did not make');
      return { signature: match.signature, key };
    },
  };
}

/** The claim that Fulcio has the holder sign: a verified `email`, else `sub`. */
function tokenSubject(token: string): string | null {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    if (typeof claims !== 'object' || claims === null) return null;
    if ('email' in claims && claims.email) {
      const verified = 'email_verified' in claims && claims.email_verified;
      return verified ? String(claims.email) : null;
    }
    return 'sub' in claims ? String(claims.sub) : null;
  } catch {
    return null;
  }
}
