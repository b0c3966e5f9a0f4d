// The courier: takes jobs from the spool into its outbox and delivers them. It has the network and the delivery credentials, and
// neither the TPM nor a secret of the node. It can die at any time; what it had not acknowledged is sent again.
import { accessSync, constants, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Channel, openChannel } from '../alerts/channel.ts';
import { Deliverer, type DeliveryEvent } from '../alerts/deliver.ts';
import { Outbox } from '../alerts/outbox.ts';
import { alertPolicySchema, jobsOf, type RoutedChannel } from '../alerts/router.ts';
import { takeJobs } from '../alerts/spool.ts';
import { countersign } from '../attestation/countersign.ts';
import { parseEnrolment } from '../attestation/enrolment.ts';
import { deliver, parseUploadUrl, type UploadCredentials } from '../forensics/deliver.ts';
import { writeDurably } from '../host/durable.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import { becomeUser, findUser } from '../host/privileges.ts';
import { utcNow } from '../host/time.ts';
import { readToml } from '../host/toml.ts';
import { unprovisioned } from '../keys/lifecycle.ts';
import type { Config } from './config.ts';
import type { BundleJob } from './evidence.ts';
import { type StateLayout, stateLayout } from './node-record.ts';
import { packageRoot, policyPath } from './policies.ts';

export interface CourierOptions {
  /** Deliver what is due once, then end. */
  readonly once: boolean;
  /** Aborted when the courier is to end: what is under way gets its grace, the rest stays queued. */
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

/** How long an ending courier goes on. */
const lastAttemptMilliseconds = 5000;
/** Requests to Sigstore services give up after this; the delivery is tried again. */
const sigstoreTimeout = 15_000;

/** Returns the number of jobs that are still queued. @throws Failure `state-in-use` when a courier runs already. */
export async function runCourier(config: Config, options: CourierOptions): Promise<number> {
  const layout = stateLayout(config.node.state_dir);
  if (!existsSync(layout.spool)) throw unprovisioned(layout.directory);
  const policy = readToml(policyPath('alerts.toml'), alertPolicySchema);
  const channels = openChannels(config);
  await loadBeforeDropping(config);
  if (config.courier.user !== '') becomeUser(findUser(config.courier.user));
  // Only now: the lock lies in a directory of the courier's, where root must follow no link.
  using _lock = holdLock(layout.courierLock, 'The outbox');
  if (config.courier.user !== '') requireReadableProgram(config.courier.user);

  using outbox = new Outbox(layout.outbox, Date.now, {
    deduplicationMilliseconds: policy.deduplicationMilliseconds,
  });
  const deliverer = (): Deliverer =>
    new Deliverer({
      outbox,
      channels: new Map([...channels].map(([id, { channel }]) => [id, channel])),
      bundle: (payload, signal) => deliverBundle(config, layout, payload as BundleJob, signal),
      report: (event) => options.log(eventLine(event)),
    });
  const routed: RoutedChannel[] = [...channels].map(([id, { tag, minSeverity }]) => ({
    id,
    ...(minSeverity === '' ? {} : { minSeverity }),
    ...(tag === '' ? {} : { tag }),
  }));
  const takeIn = (): void => {
    const taken = takeJobs(layout.spool, (file, reason) => options.log(`Rejected ${file}: ${reason}`));
    for (const { job, done } of taken) {
      outbox.enqueue(...jobsOf(job, policy, routed));
      done();
    }
  };
  if (options.once) {
    takeIn();
    await deliverer().runOnce();
    return outbox.counts().queued;
  }
  const delivering = deliverer().loop(options.signal, options.log);
  while (!options.signal.aborted) {
    try {
      takeIn();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      options.log(error.message);
    }
    await delay(config.courier.poll_milliseconds, undefined, { signal: options.signal }).catch(() => {});
  }
  await delivering;
  // What came in last, such as the alert of a node that has just died, gets one attempt of its own.
  takeIn();
  await Promise.race([deliverer().runOnce(), delay(lastAttemptMilliseconds, undefined, { ref: false })]);
  return outbox.counts().queued;
}

interface ConfiguredChannel {
  readonly channel: Channel;
  readonly tag: string;
  readonly minSeverity: Config['alerts']['channels'][number]['min_severity'];
}

/** By identifier (`json-1`): the scheme and the place in the configuration, so that no URL leaves the courier. */
function openChannels(config: Config): Map<string, ConfiguredChannel> {
  return new Map(
    config.alerts.channels.map((entry, place) => {
      const url = entry.url === '' ? readFileSync(entry.url_file, 'utf8').trim() : entry.url;
      const scheme = url.slice(0, url.indexOf(':'));
      return [
        `${scheme}-${place + 1}`,
        { channel: openChannel(url), tag: entry.tag, minSeverity: entry.min_severity },
      ];
    }),
  );
}

/** Libraries load parts of themselves when they need them. @throws Failure `program-unreadable`, usage. */
function requireReadableProgram(user: string): void {
  try {
    accessSync(`${packageRoot}package.json`, constants.R_OK);
  } catch {
    throw new Failure('program-unreadable', `The courier runs as ${user}, who cannot read ${packageRoot}.`, {
      kept: 'Alerts and bundles wait in the spool.',
      remedy: `Install the program where every user can read it, or name another user in courier.user.`,
      status: exitStatus.usage,
    });
  }
}

/** What is imported late for the sake of start time is imported now: afterwards the program's files may be out of reach. */
async function loadBeforeDropping(config: Config): Promise<void> {
  if (config.forensics.upload.startsWith('s3://')) await import('@aws-sdk/client-s3');
}

async function deliverBundle(
  config: Config,
  layout: StateLayout,
  job: BundleJob,
  signal: AbortSignal,
): Promise<void> {
  const sigstore = await countersigned(config, layout, job);
  if (job.upload === '') return;
  // A node provisioned by an earlier version has none.
  mkdirSync(layout.uploads, { recursive: true, mode: 0o700 });
  await deliver({
    stateDirectory: layout.uploads,
    files: [job.archive, sigstore],
    target: parseUploadUrl(job.upload),
    credentials: async () => readS3Credentials(config.courier.s3_credentials_file),
    signal,
  });
}

/**
 * The signature file to deliver: countersigned, in a directory of the courier's own, or the node's where there is nothing to
 * countersign. What the node signed stays as it is, byte for byte, and where it is.
 */
async function countersigned(config: Config, layout: StateLayout, job: BundleJob): Promise<string> {
  const own = join(layout.countersigned, basename(job.sigstore));
  if (existsSync(own)) return own;
  const {
    mode,
    fulcio,
    rekor,
    rekor_version: rekorVersion,
    tsa,
    identity_token_file: tokenFile,
    trusted_root: rootFile,
  } = config.sigstore;
  const enrolment = parseEnrolment(readFileSync(layout.enrolment, 'utf8'));
  const bundle: unknown = JSON.parse(readFileSync(job.sigstore, 'utf8'));
  const anyService = [fulcio, rekor, tsa].some((url) => url !== '');
  if (mode === 'none' || !anyService || enrolment.tpm === null || !isPending(bundle)) return job.sigstore;
  const proof = job.proofOfPossession;
  const complete = await countersign({
    bundle,
    publicKeyPem: enrolment.tpm.signingKey.publicKey,
    proofOfPossession:
      proof === null
        ? null
        : { subject: proof.subject, signatureDer: Buffer.from(proof.signature, 'base64') },
    services: {
      ...(fulcio === '' ? {} : { fulcio }),
      ...(rekor === '' ? {} : { rekor, rekorVersion }),
      ...(tsa === '' ? {} : { tsa }),
    },
    ...(tokenFile === '' || !existsSync(tokenFile)
      ? {}
      : { identityToken: readFileSync(tokenFile, 'utf8').trim() }),
    ...(rootFile === '' ? {} : { trustedRoot: JSON.parse(readFileSync(rootFile, 'utf8')) }),
    timeoutMilliseconds: sigstoreTimeout,
  });
  writeDurably(own, `${JSON.stringify(complete)}\n`, 0o644);
  return own;
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

/** The `[default]` profile of a file in the format of ~/.aws/credentials. */
function readS3Credentials(path: string): UploadCredentials {
  const missing = (why: string): Failure =>
    new Failure('s3-credentials', `The courier has no S3 credentials: ${why}.`, {
      kept: 'The bundle is kept on this node, and its delivery will be tried again.',
      remedy: 'Name a file with aws_access_key_id and aws_secret_access_key in courier.s3_credentials_file.',
    });
  if (path === '' || !existsSync(path))
    throw missing(path === '' ? 'no file is named' : `${path} is missing`);
  const text = readFileSync(path, 'utf8');
  const value = (key: string): string | undefined =>
    new RegExp(`^\\s*${key}\\s*=\\s*(\\S+)\\s*$`, 'm').exec(text)?.[1];
  const accessKeyId = value('aws_access_key_id');
  const secretAccessKey = value('aws_secret_access_key');
  if (accessKeyId === undefined || secretAccessKey === undefined) throw missing(`${path} holds none`);
  const sessionToken = value('aws_session_token');
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}

const eventLine = ({ kind, key, channel, state, error }: DeliveryEvent): string =>
  `${utcNow()} ${kind} ${key}${channel === '' ? '' : ` to ${channel}`}: ${state}${error === undefined ? '' : ` (${error})`}`;
