// Delivery of a forensic bundle, in the courier: to S3 (PutObject, If-None-Match) or a directory, and read back. Nothing
// counts as delivered before the same SHA-256 has come back from where it went.
import { createHash } from 'node:crypto';
import { createReadStream, linkSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { copyFile, open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import type { S3Client } from '@aws-sdk/client-s3';
import { syncDirectory } from '../host/durable.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import type { UploadTarget } from './upload-target.ts';

export { parseUploadUrl, type UploadTarget } from './upload-target.ts';

export interface UploadCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface DeliveryProgress {
  readonly file: string;
  readonly phase: 'upload' | 'read back';
  readonly bytes: number;
  readonly total: number;
}

export interface Delivery {
  /** Paths of the archive and its `.sigstore.json`, delivered in this order under their own names. */
  readonly files: readonly string[];
  readonly target: UploadTarget;
  /** Asked once, and only for S3. */
  readonly credentials: () => Promise<UploadCredentials>;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: DeliveryProgress) => void;
}

/** PutObject takes no more. */
const largestObject = 5 * 2 ** 30;
const kept = 'The bundle is kept on this node, and its delivery will be tried again.';

/**
 * Delivers the files one after another. Safe to repeat: what already lies at the target with the same content counts as
 * delivered, and nothing is ever overwritten.
 * @returns where each file lies, as `s3://bucket/key` or `file:///path`.
 * @throws Failure, with what is kept: `upload-source-missing`, `upload-too-large`, `upload-unreachable`,
 *   `upload-denied`, `upload-bucket-missing`, `upload-refused`, `upload-conflict` (other content lies there),
 *   `upload-corrupt` (what came back differs); `upload-directory` for a directory; the signal's reason when aborted.
 */
export async function deliver(delivery: Delivery): Promise<{ uploadedTo: string[] }> {
  const { files, target, signal } = delivery;
  signal.throwIfAborted();
  const uploadedTo: string[] = [];
  if (target.kind === 'file') {
    for (const file of files) uploadedTo.push(await deliverToDirectory(file, target.directory, delivery));
    return { uploadedTo };
  }
  const client = await connect(target, await delivery.credentials());
  try {
    for (const file of files) uploadedTo.push(await deliverToS3(client, file, target, delivery));
  } catch (error) {
    signal.throwIfAborted();
    throw s3Failure(error, target);
  } finally {
    client.destroy();
  }
  return { uploadedTo };
}

/** What goes wrong is thrown; without this the SDK also prints. */
const silent = { debug() {}, info() {}, warn() {}, error() {} };

type S3Target = Extract<UploadTarget, { kind: 's3' }>;

async function connect(target: S3Target, credentials: UploadCredentials): Promise<S3Client> {
  const { S3Client } = await import('@aws-sdk/client-s3');
  return new S3Client({
    region: target.region,
    credentials,
    logger: silent,
    requestChecksumCalculation: 'WHEN_SUPPORTED',
    responseChecksumValidation: 'WHEN_SUPPORTED',
    requestHandler: { connectionTimeout: 10_000, requestTimeout: 120_000, throwOnRequestTimeout: true },
    ...(target.endpoint === undefined ? {} : { endpoint: target.endpoint, forcePathStyle: true }),
  });
}

async function deliverToS3(
  client: S3Client,
  file: string,
  target: S3Target,
  delivery: Delivery,
): Promise<string> {
  const { PutObjectCommand, GetObjectCommand } = await import('@aws-sdk/client-s3');
  const { signal } = delivery;
  const local = await measure(file, signal);
  const place = { Bucket: target.bucket, Key: [target.prefix, basename(file)].filter(Boolean).join('/') };
  const where = `s3://${place.Bucket}/${place.Key}`;
  if (local.size > largestObject) {
    throw new Failure('upload-too-large', `${file} is larger than the 5 GiB that one S3 upload takes.`, {
      kept,
      remedy: 'Deliver it to a file:/// target, or collect a shorter span with --since.',
    });
  }
  const body = Readable.from(counted(createReadStream(file), counter(delivery, file, 'upload', local.size)), {
    objectMode: false,
  });
  const broken = new AbortController();
  body.on('error', (error) => broken.abort(error));
  let alreadyThere = false;
  try {
    await client.send(
      new PutObjectCommand({
        ...place,
        Body: body,
        ContentLength: local.size,
        ContentType: file.endsWith('.json') ? 'application/json' : 'application/gzip',
        ChecksumAlgorithm: 'CRC32',
        IfNoneMatch: '*',
        Metadata: { sha256: local.sha256 },
      }),
      { abortSignal: AbortSignal.any([signal, broken.signal]) },
    );
  } catch (error) {
    if (broken.signal.aborted) throw sourceFailure(file, broken.signal.reason);
    if (httpStatus(error) !== 412) throw error;
    alreadyThere = true;
  } finally {
    body.destroy();
  }
  const answer = await client.send(new GetObjectCommand(place), { abortSignal: signal });
  const remote = await digest(
    answer.Body as AsyncIterable<Uint8Array>,
    counter(delivery, file, 'read back', local.size),
  );
  requireSame(local, remote, where, alreadyThere);
  return where;
}

async function deliverToDirectory(file: string, directory: string, delivery: Delivery): Promise<string> {
  const { signal } = delivery;
  const local = await measure(file, signal);
  const path = join(directory, basename(file));
  const alreadyThere = await copyDurably(file, directory).catch((error: unknown) => {
    throw new Failure(
      'upload-directory',
      `${file} could not be copied to ${directory}: ${reasonOf(error)}.`,
      {
        kept,
        remedy: 'Make the directory writable for the courier and see that it has room.',
        cause: error,
      },
    );
  });
  delivery.onProgress?.({ file, phase: 'upload', bytes: local.size, total: local.size });
  const onChunk = counter(delivery, file, 'read back', local.size);
  const remote = await digest(createReadStream(path, { signal }), onChunk);
  requireSame(local, remote, path, alreadyThere);
  return pathToFileURL(path).href;
}

/** Copied beside, synced, then linked under its name: never an overwrite. @returns whether the name was taken. */
async function copyDurably(file: string, directory: string): Promise<boolean> {
  const beside = join(directory, `.${basename(file)}.part`);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  try {
    await copyFile(file, beside);
    await using copy = await open(beside, 'r+');
    await copy.sync();
    const taken = !publish(beside, join(directory, basename(file)));
    syncDirectory(directory);
    return taken;
  } finally {
    rmSync(beside, { force: true });
  }
}

/** False where the name is taken. File systems without hard links (USB sticks) get a rename. */
function publish(beside: string, path: string): boolean {
  try {
    linkSync(beside, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    if (code !== 'EPERM' && code !== 'EOPNOTSUPP') throw error;
    if (statSync(path, { throwIfNoEntry: false }) !== undefined) return false;
    renameSync(beside, path);
  }
  return true;
}

interface Measured {
  readonly size: number;
  readonly sha256: string;
}

async function measure(file: string, signal: AbortSignal): Promise<Measured> {
  try {
    return await digest(createReadStream(file, { signal }));
  } catch (error) {
    signal.throwIfAborted();
    throw sourceFailure(file, error);
  }
}

const sourceFailure = (file: string, cause: unknown): Failure =>
  new Failure('upload-source-missing', `${file} cannot be read: ${reasonOf(cause)}.`, {
    remedy: 'Look for the bundle with `esoteric-appliance status`, or collect another.',
    cause,
  });

async function* counted(
  stream: AsyncIterable<Uint8Array>,
  onChunk: (chunk: Uint8Array) => void,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) {
    onChunk(chunk);
    yield chunk;
  }
}

async function digest(
  stream: AsyncIterable<Uint8Array>,
  onChunk?: (chunk: Uint8Array) => void,
): Promise<Measured> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of onChunk === undefined ? stream : counted(stream, onChunk)) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { size, sha256: hash.digest('hex') };
}

function requireSame(local: Measured, remote: Measured, where: string, alreadyThere: boolean): void {
  if (remote.sha256 === local.sha256) return;
  if (alreadyThere) {
    throw new Failure('upload-conflict', `Other content already lies at ${where}; it was not overwritten.`, {
      kept,
      remedy: 'Find out who wrote it there, or give the upload another prefix.',
    });
  }
  throw corrupt(
    where,
    `sent ${local.size} bytes with SHA-256 ${local.sha256}, got ${remote.size} with ${remote.sha256}`,
  );
}

const corrupt = (where: string, why: string, cause?: unknown): Failure =>
  new Failure('upload-corrupt', `What was read back from ${where} is not what was sent: ${why}.`, {
    kept: 'The bundle is kept on this node; the damaged copy was left where it is, as evidence.',
    remedy: 'Do not rely on that store before its damage is explained; upload to another.',
    cause,
  });

function counter({ onProgress }: Delivery, file: string, phase: DeliveryProgress['phase'], total: number) {
  let bytes = 0;
  return (chunk: Uint8Array): void => {
    bytes += chunk.length;
    onProgress?.({ file, phase, bytes, total });
  };
}

const httpStatus = (error: unknown): number | undefined =>
  (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;

/** The sentences for what the SDK throws. */
function s3Failure(error: unknown, target: S3Target): Failure {
  if (error instanceof Failure) return error;
  const name = error instanceof Error ? error.name : '';
  const status = httpStatus(error);
  const place = target.endpoint ?? `S3 in ${target.region}`;
  const said = `${name}: ${reasonOf(error)}`;
  const failure = (code: string, message: string, remedy: string) =>
    new Failure(code, message, { kept, remedy, cause: error });
  if (/checksum mismatch/i.test(reasonOf(error)))
    return corrupt(`s3://${target.bucket}`, reasonOf(error), error);
  if (name === 'NoSuchBucket') {
    return failure(
      'upload-bucket-missing',
      `${place} has no bucket ${target.bucket}.`,
      'Create the bucket, or correct the upload URL.',
    );
  }
  if (status === 400 || status === 401 || status === 403 || status === 301) {
    return failure(
      'upload-denied',
      `${place} denied the upload (${said}).`,
      "Check the courier's credential file, the region and this node's clock.",
    );
  }
  if (status !== undefined) {
    return failure(
      'upload-refused',
      `${place} refused the upload with ${status} (${said}).`,
      'Wait, or look at the state of the store if it stays so.',
    );
  }
  return failure(
    'upload-unreachable',
    `${place} cannot be reached (${said}).`,
    "Check the endpoint and the node's way there; the firewall must let the courier out.",
  );
}
