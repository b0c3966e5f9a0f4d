// The delivery of one bundle by the courier: its archive first, which is final; then its signature file, once it is countersigned,
// for nothing is overwritten there; each is read back, and when both are there the node gets a receipt.
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DeliveryFailure } from '../alerts/delivery-failure.ts';
import { writeReceipt } from '../alerts/receipts.ts';
import { CountersignFailure } from '../attestation/countersign-failure.ts';
import {
  abandonDelivery,
  type Delivered,
  type Delivery,
  deliver,
  parseUploadUrl,
} from '../forensics/deliver.ts';
import { Failure } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import { archiveSent, forgetArchive, noteArchive } from './archive-sent.ts';
import { type BundleJob, uploadOf } from './bundle-job.ts';
import type { Config } from './config.ts';
import { countersigned } from './countersigning.ts';
import type { CourierIdentity } from './courier-identity.ts';
import { receiptFiles } from './receipts.ts';
import { credentialsFrom } from './s3-credentials.ts';
import type { StateLayout } from './state-layout.ts';
import { countersignedPath, hasService } from './witnesses.ts';

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
  const send = async (file: string): Promise<Delivered[]> => {
    const delivery = deliveryOf(config, layout, { job, upload, files: [file], signal });
    return await deliver({ ...delivery, onProgress: moved }).catch((error: unknown) => {
      throw passes(error) ? error : withRemedy(error);
    });
  };
  const sendArchive = async (): Promise<Delivered[]> => {
    const sent = archiveSent(layout.uploads, { ...job, upload });
    if (sent !== undefined) return [sent];
    const delivered = await send(job.archive);
    for (const each of delivered) noteArchive(layout.uploads, upload, each);
    return delivered;
  };
  // No service of others, and no identity token, keeps evidence from leaving the node.
  const archive = upload === '' ? [] : await sendArchive();
  const sigstore = await countersigned(config, layout, job, identity).catch(async (error: unknown) => {
    // Told is why it is not countersigned; this is tried with it each time, and is small.
    if (upload !== '') await sendPending(layout, job, send).catch(() => {});
    throw withRemedy(error);
  });
  if (upload === '') return;
  const delivered = [...archive, ...(await send(sigstore))];
  // Before the outbox forgets the job: a kill in between delivers once more, which finds all there and changes nothing.
  writeReceipt(layout.receipts, {
    kind: 'delivered',
    key,
    at: utcNow(),
    files: receiptFiles(delivered),
  });
  forgetArchive(layout.uploads, job.archive);
}

/** The node's own signature, under another name than the complete one will have: what is lost meanwhile is proven by it. */
async function sendPending(
  layout: StateLayout,
  { sigstore }: BundleJob,
  send: (file: string) => Promise<unknown>,
): Promise<void> {
  const name = basename(sigstore).replace(/\.sigstore\.json$/, '.pending.sigstore.json');
  const pending = join(layout.uploads, name);
  try {
    copyFileSync(sigstore, pending);
    await send(pending);
  } finally {
    rmSync(pending, { force: true });
  }
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
    files,
    signal,
  }: {
    readonly job: BundleJob;
    readonly upload: string;
    readonly files: readonly string[];
    readonly signal: AbortSignal;
  },
): Delivery {
  // A node provisioned by an earlier version has none.
  mkdirSync(layout.uploads, { recursive: true, mode: 0o700 });
  return {
    stateDirectory: layout.uploads,
    files,
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
  const own = countersignedPath(layout, job.sigstore);
  if (upload !== '')
    await abandonDelivery(deliveryOf(config, layout, { job, upload, files: [job.archive, own], signal }));
  const sent = archiveSent(layout.uploads, { ...job, upload });
  forgetArchive(layout.uploads, job.archive);
  rmSync(own, { force: true });
  const left = sent === undefined ? '' : ` Its archive lies at ${sent.where}, not countersigned.`;
  throw DeliveryFailure.gone(`${name} is no longer kept on this node.${left}`);
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

/** The outbox keeps one sentence of a failure, and `upload status` shows it: where a person must act, it says how. */
function withRemedy(error: unknown): unknown {
  if (!(error instanceof Failure) || error.remedy === undefined) return error;
  if (error instanceof CountersignFailure && error.retryable) return error;
  const { code, message, kept, remedy } = error;
  return new Failure(code, `${message} ${remedy}`, { ...(kept === undefined ? {} : { kept }), remedy });
}
