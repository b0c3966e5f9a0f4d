// The node's proof for Fulcio that it holds its key. It is a signature over the name of an identity and tells nothing of a bundle, so
// what came with one bundle serves for all that the same key signed: those from before Fulcio was configured, or the identity changed.
import { verify } from 'node:crypto';
import { fulcioChallenge } from '../attestation/dsse.ts';
import type { BundleJob } from './bundle-job.ts';

type Proof = BundleJob['proofOfPossession'];

/**
 * The proof to countersign a bundle with: its own where that is of the identity, else one that came with another bundle, `others`,
 * which are read only then. Null where no proof has come yet. An empty `identity` is that of the bundle.
 */
export function possessionFor(
  { proofOfPossession: own }: Pick<BundleJob, 'proofOfPossession'>,
  { identity, publicKeyPem }: { readonly identity: string; readonly publicKeyPem: string },
  others: () => Iterable<Partial<Pick<BundleJob, 'proofOfPossession'>>>,
): Proof {
  const fits = (proof: Proof | undefined): proof is NonNullable<Proof> =>
    proof != null && proof.subject === identity && holds(proof, publicKeyPem);
  if (identity === '' || own?.subject === identity) return own;
  const serving = Iterator.from(others()).find(({ proofOfPossession }) => fits(proofOfPossession));
  return serving?.proofOfPossession ?? own;
}

/** A node that was provisioned anew has another key. */
const holds = ({ subject, signature }: NonNullable<Proof>, publicKeyPem: string): boolean =>
  verify('sha256', fulcioChallenge(subject), publicKeyPem, Buffer.from(signature, 'base64'));
