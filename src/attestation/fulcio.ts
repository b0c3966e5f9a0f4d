// A Fulcio certificate for a key that is elsewhere: the node signed the challenge and the statement beforehand.
// https://github.com/sigstore/fulcio/blob/main/docs/how-certificate-issuing-works.md

import { X509Certificate } from 'node:crypto';
import { FulcioSigner, type Signer } from '@sigstore/sign';
import { asking, misconfigured } from './countersign-failure.ts';
import { fulcioChallenge, preAuthEncoding, readSigningKey } from './dsse.ts';
import { type ExpectedToken, requireFit } from './identity-token.ts';
import type { SigstoreBundle } from './sigstore-bundle.ts';

/** The node's signature over `fulcioChallenge(subject)`, made beforehand. */
export interface ProofOfPossession {
  readonly subject: string;
  readonly signatureDer: Uint8Array;
}

export interface CertificateRequest {
  readonly publicKeyPem: string;
  readonly proofOfPossession: ProofOfPossession | null;
  /** OIDC token for Fulcio, which the courier has. Never shown. */
  readonly identityToken?: string | undefined;
  /** What it must say beside the subject. Unless told: for `sigstore`, by any issuer. */
  readonly tokenTerms?: Omit<ExpectedToken, 'subject'> | undefined;
  /** For each request by itself. */
  readonly timeoutMilliseconds: number;
}

const usualTerms = {
  audience: 'sigstore',
  issuer: '',
  renewal: 'Give the courier a token for the Sigstore subject in the node’s configuration.',
};

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
      proof === null
        ? 'A node makes one with each bundle while sigstore.fulcio and sigstore.identity are set, and it serves for those before: set both, start the node anew and collect a bundle. Or run `courier --once` with a configuration without sigstore.fulcio for this one.'
        : 'Give the courier an identity token, or leave sigstore.fulcio out.',
    );
  }
  requireFit(token, { ...(request.tokenTerms ?? usualTerms), subject: proof.subject });
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
