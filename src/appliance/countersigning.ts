// What the Sigstore services add to a bundle's signature, in a directory of the courier's own. What the node signed stays as it is,
// byte for byte, and where it is.
import { existsSync, readFileSync } from 'node:fs';
import { readBundles } from '../alerts/outbox.ts';
import { parseEnrolment } from '../attestation/enrolment.ts';
import { writeDurably } from '../host/durable.ts';
import type { BundleJob } from './bundle-job.ts';
import type { Config } from './config.ts';
import type { CourierIdentity } from './courier-identity.ts';
import { possessionFor } from './possession.ts';
import type { StateLayout } from './state-layout.ts';
import { countersignedPath, hasService, isPending } from './witnesses.ts';

/** Requests to Sigstore services give up after this; the delivery is tried again. */
const sigstoreTimeout = 15_000;

/** The signature file to deliver: countersigned, or the node's where there is nothing to countersign. */
export async function countersigned(
  config: Config,
  layout: StateLayout,
  job: BundleJob,
  identity: CourierIdentity,
): Promise<string> {
  const own = countersignedPath(layout, job.sigstore);
  if (existsSync(own)) return own;
  const { fulcio, rekor, rekor_version: rekorVersion, tsa, trusted_root: rootFile } = config.sigstore;
  const enrolment = parseEnrolment(readFileSync(layout.enrolment, 'utf8'));
  const bundle: unknown = JSON.parse(readFileSync(job.sigstore, 'utf8'));
  if (!hasService(config) || enrolment.tpm === null || !isPending(bundle)) return job.sigstore;
  const publicKeyPem = enrolment.tpm.signingKey.publicKey;
  const others = () => readBundles(layout.outbox).values() as Iterable<BundleJob>;
  const proof =
    fulcio === '' ? null : possessionFor(job, { identity: config.sigstore.identity, publicKeyPem }, others);
  const { countersign } = await import('../attestation/countersign.ts');
  const complete = await countersign({
    bundle,
    publicKeyPem,
    proofOfPossession:
      proof === null
        ? null
        : { subject: proof.subject, signatureDer: Buffer.from(proof.signature, 'base64') },
    services: {
      ...(fulcio === '' ? {} : { fulcio }),
      ...(rekor === '' ? {} : { rekor, rekorVersion }),
      ...(tsa === '' ? {} : { tsa }),
    },
    ...(proof === null ? {} : await identity.token()),
    ...(rootFile === '' ? {} : { trustedRoot: JSON.parse(readFileSync(rootFile, 'utf8')) }),
    timeoutMilliseconds: sigstoreTimeout,
  });
  writeDurably(own, `${JSON.stringify(complete)}\n`, 0o644);
  return own;
}
