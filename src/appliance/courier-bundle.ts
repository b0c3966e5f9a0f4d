// The delivery of one bundle by the courier: countersigned, uploaded, read back, and a receipt for the node.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DeliveryFailure } from '../alerts/delivery-failure.ts';
import { readBundles } from '../alerts/outbox.ts';
import { writeReceipt } from '../alerts/receipts.ts';
import { CountersignFailure } from '../attestation/countersign-failure.ts';
import { parseEnrolment } from '../attestation/enrolment.ts';
import { abandonDelivery, type Delivery, deliver, parseUploadUrl } from '../forensics/deliver.ts';
import { writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import { type BundleJob, uploadOf } from './bundle-job.ts';
import type { Config } from './config.ts';
import type { CourierIdentity } from './courier-identity.ts';
import { possessionFor } from './possession.ts';
import { receiptFiles } from './receipts.ts';
import { credentialsFrom } from './s3-credentials.ts';
import type { StateLayout } from './state-layout.ts';

/** Requests to Sigstore services give up after this; the delivery is tried again. */
const sigstoreTimeout = 15_000;

/** What is imported late for the sake of start time is imported now: afterwards the program's files may be out of reach. */
export async function loadBeforeDropping(config: Config): Promise<void> {
  if (config.forensics.upload.startsWith('s3://')) await import('@aws-sdk/client-s3');
  const { fulcio, identity_token_file: tokenFile } = config.sigstore;
  if (hasService(config)) await import('../attestation/countersign.ts');
  if (fulcio !== '' && tokenFile === '') await import('../attestation/identity-issuer.ts');
}

/** @throws Failure: the job stays queued. DeliveryFailure `bundle-gone` where the node no longer keeps the bundle. */
export async function deliverBundle(
  config: Config,
  layout: StateLayout,
  {
    key,
    job,
    identity,
    signal,
    moved,
  }: {
    readonly key: string;
    readonly job: BundleJob;
    readonly identity: CourierIdentity;
    readonly signal: AbortSignal;
    /** Called whenever some of it has got through. */
    readonly moved: () => void;
  },
): Promise<void> {
  const upload = uploadOf(config, job);
  if (!existsSync(job.archive)) await giveUp(config, layout, { job, upload, signal });
  const sigstore = await countersigned(config, layout, job, identity).catch((error: unknown) => {
    throw withRemedy(error);
  });
  if (upload === '') return;
  const delivered = await deliver({
    ...deliveryOf(config, layout, { job, upload, sigstore, signal }),
    onProgress: moved,
  }).catch((error: unknown) => {
    throw passes(error) ? error : withRemedy(error);
  });
  // Before the outbox forgets the job: a kill in between delivers once more, which finds all there and changes nothing.
  writeReceipt(layout.receipts, {
    kind: 'delivered',
    key,
    at: utcNow(),
    files: receiptFiles(delivered),
  });
}

/** By itself, most likely: nobody need do anything yet. */
const passes = (error: unknown): boolean =>
  error instanceof Failure && ['upload-refused', 'upload-unreachable'].includes(error.code);

function deliveryOf(
  config: Config,
  layout: StateLayout,
  {
    job,
    upload,
    sigstore,
    signal,
  }: {
    readonly job: BundleJob;
    readonly upload: string;
    readonly sigstore: string;
    readonly signal: AbortSignal;
  },
): Delivery {
  // A node provisioned by an earlier version has none.
  mkdirSync(layout.uploads, { recursive: true, mode: 0o700 });
  return {
    stateDirectory: layout.uploads,
    files: [job.archive, sigstore],
    sha256: new Map(job.sha256 === undefined ? [] : [[job.archive, job.sha256]]),
    target: parseUploadUrl(upload),
    credentials: async () => credentialsFrom(config.courier.s3_credentials_file),
    signal,
  };
}

/** Clears away what there is of a bundle that is gone. @throws always; DeliveryFailure where it is gone for good. */
async function giveUp(
  config: Config,
  layout: StateLayout,
  { job, upload, signal }: { readonly job: BundleJob; readonly upload: string; readonly signal: AbortSignal },
): Promise<never> {
  const name = basename(job.archive);
  if (!isGone(job.archive)) {
    throw new Failure('upload-source-missing', `${name} cannot be found, nor that the node gave it up.`, {
      kept: 'Its delivery will be tried again.',
      remedy: `See that ${dirname(job.archive)} is mounted, and open to the courier.`,
    });
  }
  const own = join(layout.countersigned, basename(job.sigstore));
  if (upload !== '')
    await abandonDelivery(deliveryOf(config, layout, { job, upload, sigstore: own, signal }));
  rmSync(own, { force: true });
  throw DeliveryFailure.gone(`${name} is no longer kept on this node.`);
}

/** Not where its directory is missing, empty or closed to this user: not mounted, which passes. */
function isGone(path: string): boolean {
  try {
    return readdirSync(dirname(path)).length > 0 && statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}

/** Signature files of bundles that the node has given up. */
export function forgetGone(layout: StateLayout): void {
  if (!existsSync(layout.countersigned) || !existsSync(layout.bundles)) return;
  const kept = new Set(readdirSync(layout.bundles));
  for (const name of readdirSync(layout.countersigned).filter((each) => each.endsWith('.json'))) {
    if (!kept.has(name)) rmSync(join(layout.countersigned, name), { force: true });
  }
}

/**
 * The signature file to deliver: countersigned, in a directory of the courier's own, or the node's where there is nothing to
 * countersign. What the node signed stays as it is, byte for byte, and where it is.
 */
async function countersigned(
  config: Config,
  layout: StateLayout,
  job: BundleJob,
  identity: CourierIdentity,
): Promise<string> {
  const own = join(layout.countersigned, basename(job.sigstore));
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

const hasService = ({ sigstore: { mode, fulcio, rekor, tsa } }: Config): boolean =>
  mode !== 'none' && [fulcio, rekor, tsa].some((url) => url !== '');

/** The outbox keeps one sentence of a failure, and `upload status` shows it: where a person must act, it says how. */
function withRemedy(error: unknown): unknown {
  if (!(error instanceof Failure) || error.remedy === undefined) return error;
  if (error instanceof CountersignFailure && error.retryable) return error;
  const { code, message, kept, remedy } = error;
  return new Failure(code, `${message} ${remedy}`, { ...(kept === undefined ? {} : { kept }), remedy });
}

/** Signed by the node, and by no witness yet. */
function isPending(bundle: unknown): boolean {
  const { verificationMaterial: material, dsseEnvelope: envelope } = bundle as {
    verificationMaterial?: {
      tlogEntries?: unknown[];
      certificate?: unknown;
      timestampVerificationData?: { rfc3161Timestamps?: unknown[] };
    };
    dsseEnvelope?: { signatures?: unknown[] };
  };
  return (
    (envelope?.signatures?.length ?? 0) > 0 &&
    material?.certificate === undefined &&
    (material?.tlogEntries?.length ?? 0) === 0 &&
    (material?.timestampVerificationData?.rfc3161Timestamps?.length ?? 0) === 0
  );
}
