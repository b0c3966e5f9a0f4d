// A large file to S3 in parts (Amazon S3 API reference: CreateMultipartUpload, UploadPart, CompleteMultipartUpload). Which
// parts lie there is on disk after each of them, so that a courier that was killed goes on where it stopped.
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { S3Client } from '@aws-sdk/client-s3';
import { removeDurable, writeDurably } from '../host/durable.ts';
import { z } from '../host/zod.ts';
import { counter, type Delivery, type Measured, requireUnchanged } from './delivery.ts';
import { type Part, PartReader } from './part-reader.ts';
import { httpStatus, intercepted, type S3Target } from './s3-failure.ts';

const mebibyte = 1 << 20;
export const defaultPartBytes = 8 * mebibyte;
/** S3 takes 10,000. */
const mostParts = 9_000;
/** Parts under way at once, each of them in memory. */
const lanes = 4;
/** What the store says of an upload that it has forgotten, or that is not what the state on disk tells. */
const staleness: ReadonlySet<string> = new Set([
  'NoSuchUpload',
  'InvalidPart',
  'InvalidPartOrder',
  'EntityTooSmall',
  'BadDigest',
]);

const stateSchema = z.strictObject({
  format: z.literal('esoteric-appliance-upload/1'),
  endpoint: z.string(),
  bucket: z.string(),
  key: z.string(),
  sha256: z.string(),
  /** What protects the object was asked for when the upload began. */
  protection: z.string(),
  partBytes: z.int().positive(),
  uploadId: z.string().min(1),
  parts: z.array(
    z.strictObject({ PartNumber: z.int().positive(), ETag: z.string(), ChecksumCRC32: z.string() }),
  ),
});
type PartState = z.infer<typeof stateSchema>;

export interface PartsUpload {
  readonly client: S3Client;
  readonly file: string;
  readonly local: Measured;
  readonly asked: {
    readonly Bucket: string;
    readonly Key: string;
    readonly ServerSideEncryption?: 'AES256' | 'aws:kms' | 'aws:kms:dsse';
    readonly ObjectLockMode?: 'GOVERNANCE' | 'COMPLIANCE';
    readonly ObjectLockRetainUntilDate?: Date;
  };
  readonly target: S3Target;
  readonly delivery: Delivery;
}

/** @returns whether something lay there already; it is the caller's to look at that. */
export async function uploadInParts(upload: PartsUpload): Promise<boolean> {
  const { delivery } = upload;
  const path = statePath(upload);
  if (await liesThere(upload)) {
    forget(path);
    return true;
  }
  const found = readState(path, upload);
  if (found === undefined && path !== undefined) await abandonOther(upload, parseState(path));
  let state = found;
  try {
    if (state === undefined) {
      state = await begin(upload);
      remember(path, state);
    }
    await complete(upload, state, await sendParts(upload, state, path));
  } catch (error) {
    const isTaken = httpStatus(error) === 412;
    const isStale = error instanceof Error && staleness.has(error.name);
    if (!isTaken && !isStale) throw error;
    await abandon(upload, state);
    forget(path);
    if (isTaken) return true;
    delivery.signal.throwIfAborted();
    if (found === undefined) throw error;
    // From the start, unless the upload had ended and only its answer was lost.
    return await uploadInParts(upload);
  }
  forget(path);
  return false;
}

const endpointOf = ({ endpoint, region }: S3Target): string => endpoint ?? region;

/** Whether an upload of the file was begun and not ended, as far as its state is kept. */
export const isUnfinished = ({ stateDirectory }: Delivery, file: string): boolean =>
  stateDirectory !== undefined && existsSync(stateFile(stateDirectory, file));

/** Clears away what was sent of a file that will not be sent any more, as far as the store lets. */
export async function abandonParts(
  client: S3Client,
  target: S3Target,
  { stateDirectory, file, signal }: { stateDirectory: string; file: string; signal: AbortSignal },
): Promise<void> {
  const path = stateFile(stateDirectory, file);
  const state = parseState(path);
  if (state?.endpoint === endpointOf(target)) {
    const { bucket: Bucket, key: Key } = state;
    await abandon({ client, asked: { Bucket, Key }, delivery: { signal } }, state);
  }
  forget(path);
}

async function liesThere({ client, asked: { Bucket, Key }, delivery }: PartsUpload): Promise<boolean> {
  const { HeadObjectCommand } = await import('@aws-sdk/client-s3');
  try {
    await client.send(new HeadObjectCommand({ Bucket, Key }), { abortSignal: delivery.signal });
    return true;
  } catch (error) {
    // 403 is what S3 answers about a missing object to those who may not list, and an answer to HEAD does not say why it
    // refuses: the next request does, and writes nothing over what may lie there.
    const status = httpStatus(error) ?? 0;
    if (status >= 400 && status < 500) return false;
    throw error;
  }
}

async function begin({ client, local, asked, target, delivery }: PartsUpload): Promise<PartState> {
  const { CreateMultipartUploadCommand } = await import('@aws-sdk/client-s3');
  const least = Math.ceil(local.size / mostParts / mebibyte) * mebibyte;
  const { UploadId } = await client.send(
    new CreateMultipartUploadCommand({ ...asked, ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' }),
    { abortSignal: delivery.signal },
  );
  if (UploadId === undefined) throw intercepted(target, 'upload', 'something that is no answer to an upload');
  return {
    format: 'esoteric-appliance-upload/1',
    endpoint: endpointOf(target),
    bucket: asked.Bucket,
    key: asked.Key,
    sha256: local.sha256,
    protection: protectionOf(asked),
    partBytes: Math.max(delivery.partBytes ?? defaultPartBytes, least),
    uploadId: UploadId,
    parts: [],
  };
}

/**
 * Sends the parts that do not lie there as they are here.
 * @returns the CRC-32 of the file. @throws Failure `upload-source-damaged` where it is another; what was sent is kept in the state.
 */
async function sendParts(upload: PartsUpload, state: PartState, path: string | undefined): Promise<number> {
  const { client, file, local, asked, delivery } = upload;
  const { UploadPartCommand } = await import('@aws-sdk/client-s3');
  const onChunk = counter(delivery, file, 'upload', local.size);
  const sent = new Map(state.parts.map(({ PartNumber, ChecksumCRC32 }) => [PartNumber, ChecksumCRC32]));
  const stop = new AbortController();
  const signal = AbortSignal.any([delivery.signal, stop.signal]);
  await using parts = await PartReader.of(file, local.size, state.partBytes);
  const send = async ({ number, bytes }: Part): Promise<void> => {
    const answer = await client.send(
      new UploadPartCommand({
        Bucket: asked.Bucket,
        Key: asked.Key,
        UploadId: state.uploadId,
        PartNumber: number,
        Body: bytes,
        ContentLength: bytes.length,
        ChecksumAlgorithm: 'CRC32',
      }),
      { abortSignal: signal },
    );
    state.parts = [
      ...state.parts.filter(({ PartNumber }) => PartNumber !== number),
      {
        PartNumber: number,
        ETag: answer.ETag ?? '',
        ChecksumCRC32: answer.ChecksumCRC32 ?? base64(crc32(bytes)),
      },
    ];
    remember(path, state);
  };
  const lane = async (): Promise<void> => {
    // One for all parts of the lane: the kernel gives new memory page by page, which takes as long as to send it.
    const buffer = Buffer.allocUnsafeSlow(parts.partBytes);
    for (let part = await parts.next(buffer); part !== undefined; part = await parts.next(buffer)) {
      signal.throwIfAborted();
      const there = sent.get(part.number);
      if (there === undefined || there !== base64(crc32(part.bytes))) await send(part);
      onChunk(part.bytes);
    }
  };
  const outcomes = await Promise.allSettled(
    Array.from({ length: lanes }, () =>
      lane().catch((error: unknown) => {
        stop.abort(error);
        throw error;
      }),
    ),
  );
  delivery.signal.throwIfAborted();
  if (outcomes.some(({ status }) => status === 'rejected')) throw stop.signal.reason;
  const found = parts.measured();
  requireUnchanged(file, local.sha256, found.sha256);
  return found.crc32;
}

async function complete(
  { client, asked, delivery }: PartsUpload,
  state: PartState,
  wholeCrc32: number,
): Promise<void> {
  const { CompleteMultipartUploadCommand } = await import('@aws-sdk/client-s3');
  await client.send(
    new CompleteMultipartUploadCommand({
      Bucket: asked.Bucket,
      Key: asked.Key,
      UploadId: state.uploadId,
      MultipartUpload: { Parts: state.parts.toSorted((a, b) => a.PartNumber - b.PartNumber) },
      ChecksumCRC32: base64(wholeCrc32),
      ChecksumType: 'FULL_OBJECT',
      IfNoneMatch: '*',
    }),
    { abortSignal: delivery.signal },
  );
}

/** Parts left behind would be paid for. What cannot be cleared away is the bucket's life-cycle rule's to clear. */
async function abandon(
  {
    client,
    asked,
    delivery,
  }: Pick<PartsUpload, 'client' | 'asked'> & { readonly delivery: Pick<Delivery, 'signal'> },
  state: PartState | undefined,
): Promise<void> {
  if (state === undefined) return;
  const { AbortMultipartUploadCommand } = await import('@aws-sdk/client-s3');
  const { Bucket, Key } = asked;
  await client
    .send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId: state.uploadId }), {
      abortSignal: delivery.signal,
    })
    .catch(() => {});
}

/** What was begun of another content, or for another place, before the bundle was sent there or under another lock. */
async function abandonOther(upload: PartsUpload, state: PartState | undefined): Promise<void> {
  if (state?.endpoint !== endpointOf(upload.target)) return;
  const { bucket: Bucket, key: Key } = state;
  await abandon({ ...upload, asked: { Bucket, Key } }, state);
}

function base64(sum: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(sum >>> 0);
  return bytes.toString('base64');
}

/** Another lock or encryption asked for since then needs another upload; the date itself moves with each attempt. */
const protectionOf = ({ ServerSideEncryption, ObjectLockMode }: PartsUpload['asked']): string =>
  `${ServerSideEncryption ?? '-'} ${ObjectLockMode ?? '-'}`;

const stateFile = (directory: string, file: string): string =>
  join(directory, `${basename(file)}.parts.json`);
const statePath = ({ file, delivery: { stateDirectory } }: PartsUpload): string | undefined =>
  stateDirectory === undefined ? undefined : stateFile(stateDirectory, file);

/** Undefined where there is none, or it is about another content or place. */
function readState(path: string | undefined, upload: PartsUpload): PartState | undefined {
  if (path === undefined) return undefined;
  const { asked, local, target } = upload;
  const state = parseState(path);
  const same =
    state?.endpoint === endpointOf(target) &&
    state.bucket === asked.Bucket &&
    state.key === asked.Key &&
    state.sha256 === local.sha256 &&
    state.protection === protectionOf(asked);
  return same ? state : undefined;
}

function parseState(path: string): PartState | undefined {
  try {
    return stateSchema.safeParse(JSON.parse(readFileSync(path, 'utf8'))).data;
  } catch {
    return undefined;
  }
}

/** A full disk costs only what another courier would not have to send again. */
function remember(path: string | undefined, state: PartState): void {
  if (path === undefined) return;
  try {
    writeDurably(path, JSON.stringify(state), 0o600);
  } catch {}
}

function forget(path: string | undefined): void {
  if (path !== undefined && existsSync(dirname(path))) removeDurable(path);
}
