// Delivery to S3: conditional, with checksums end to end, under Object Lock where asked for, and read back (Amazon S3 API
// reference: PutObject, GetObject, HeadObject). Large files go in parts, see s3-parts.ts.
import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { GetObjectCommandInput, GetObjectCommandOutput, S3Client } from '@aws-sdk/client-s3';
import { Failure } from '../host/failure.ts';
import {
  counter,
  type Delivered,
  type Delivery,
  digest,
  kept,
  type Measured,
  measure,
  requireSame,
  requireUnchanged,
  sourceFailure,
} from './delivery.ts';
import { sha256 } from './format.ts';
import { withClient } from './s3-client.ts';
import { httpStatus, intercepted, isPage, type S3Target } from './s3-failure.ts';
import { abandonParts, defaultPartBytes, isUnfinished, uploadInParts } from './s3-parts.ts';
import { s3Address } from './upload-target.ts';

/** S3 takes no larger object. */
const largestObject = 5 * 2 ** 40;
/** A retention is asked for when an upload begins, and may end this much before what is counted from its end. */
const longestUpload = 86_400_000;

/** @returns what lies there now, of each file. Goes once to another region, where the store says that the bucket is there. */
export async function deliverToS3(target: S3Target, delivery: Delivery): Promise<Delivered[]> {
  const { signal, idleMilliseconds } = delivery;
  const credentials = await delivery.credentials();
  return await withClient(
    { target, use: 'upload', credentials, idleMilliseconds, signal },
    async (client, place) => {
      const delivered: Delivered[] = [];
      for (const file of delivery.files) delivered.push(await deliverOne(client, file, place, delivery));
      return delivered;
    },
  );
}

/** Clears away the parts of files that are gone. The store is asked only where there are any. */
export async function abandonInS3(target: S3Target, delivery: Delivery): Promise<void> {
  const { signal, stateDirectory } = delivery;
  if (stateDirectory === undefined) return;
  const files = delivery.files.filter((file) => isUnfinished(delivery, file));
  if (files.length === 0) return;
  const credentials = await delivery.credentials();
  await withClient({ target, use: 'upload', credentials, signal }, async (client, place) => {
    for (const file of files) await abandonParts(client, place, { stateDirectory, file, signal });
  });
}

async function deliverOne(
  client: S3Client,
  file: string,
  target: S3Target,
  delivery: Delivery,
): Promise<Delivered> {
  const size = sizeOf(file);
  const inParts = size > (delivery.partBytes ?? defaultPartBytes);
  const known = delivery.sha256?.get(file);
  // It is measured as its parts are sent, but where that has failed before: a damaged file is not sent again and again.
  const isFresh = inParts && !isUnfinished(delivery, file);
  const local = isFresh && known !== undefined ? { size, sha256: known } : await measure(file, delivery);
  const place = { Bucket: target.bucket, Key: [target.prefix, basename(file)].filter(Boolean).join('/') };
  const where = s3Address(place.Bucket, place.Key);
  if (local.size > largestObject) {
    throw new Failure('upload-too-large', `${file} is larger than the 5 TiB that an S3 object can be.`, {
      kept,
      remedy: 'Deliver it to a file:/// target, or collect a shorter span with --since.',
    });
  }
  const asked = {
    ...place,
    ContentType: contentType(file),
    Metadata: { sha256: local.sha256 },
    ...(target.sse === undefined ? {} : { ServerSideEncryption: target.sse }),
    ...(target.lock === undefined
      ? {}
      : {
          ObjectLockMode: target.lock.mode,
          ObjectLockRetainUntilDate: new Date(Date.now() + target.lock.retainMilliseconds),
        }),
  };
  const alreadyThere = inParts
    ? await uploadInParts({ client, file, local, asked, target, delivery })
    : await uploadWhole(client, file, local, asked, delivery);
  const { answer, remote } = await readBack(client, place, file, local, delivery);
  if (remote.sha256 !== local.sha256 && isPage(answer))
    throw intercepted(target, 'upload', `${remote.size} bytes of ${answer.ContentType ?? 'its own'}`);
  requireSame(local, remote, where, alreadyThere);
  requireProtected(answer, target, where);
  const { VersionId: version, ObjectLockMode: mode, ObjectLockRetainUntilDate: until } = answer;
  return {
    file,
    where,
    ...remote,
    ...(version === undefined ? {} : { version }),
    ...(mode === undefined || until === undefined ? {} : { lock: { mode, until: until.toISOString() } }),
  };
}

/** What the store gives back. Where that is spoilt it is asked once more, with its checksum, which tells a fault of the line from one of the store. */
async function readBack(
  client: S3Client,
  place: { readonly Bucket: string; readonly Key: string },
  file: string,
  local: Measured,
  delivery: Delivery,
): Promise<{ readonly answer: GetObjectCommandOutput; readonly remote: Measured }> {
  const { GetObjectCommand } = await import('@aws-sdk/client-s3');
  const read = async (more: Pick<GetObjectCommandInput, 'ChecksumMode'>) => {
    const request = new GetObjectCommand({ ...place, ...more });
    const answer = await client.send(request, { abortSignal: delivery.signal });
    const onChunk = counter(delivery, file, 'read back', local.size);
    return { answer, remote: await digest(answer.Body as AsyncIterable<Uint8Array>, onChunk) };
  };
  const first = await read({});
  const isSpoilt = first.remote.size === local.size && first.remote.sha256 !== local.sha256;
  return isSpoilt ? await read({ ChecksumMode: 'ENABLED' }) : first;
}

function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch (error) {
    throw sourceFailure(file, error);
  }
}

function contentType(file: string): string {
  if (file.endsWith('.json')) return 'application/json';
  return file.endsWith('.age') ? 'application/octet-stream' : 'application/gzip';
}

/** @returns whether something lay there already. */
async function uploadWhole(
  client: S3Client,
  file: string,
  local: Measured,
  asked: { Bucket: string; Key: string },
  delivery: Delivery,
): Promise<boolean> {
  const { PutObjectCommand } = await import('@aws-sdk/client-s3');
  const bytes = await readFile(file).catch((error: unknown) => {
    throw sourceFailure(file, error);
  });
  requireUnchanged(file, local.sha256, sha256(bytes));
  try {
    await client.send(
      new PutObjectCommand({ ...asked, Body: bytes, ChecksumAlgorithm: 'CRC32', IfNoneMatch: '*' }),
      { abortSignal: delivery.signal },
    );
    counter(delivery, file, 'upload', local.size)(bytes);
    return false;
  } catch (error) {
    if (httpStatus(error) !== 412) throw error;
    return true;
  }
}

/** Reads back what was asked of the store: a store that ignores Object Lock or encryption answers 200 all the same. */
function requireProtected(answer: GetObjectCommandOutput, { lock, sse }: S3Target, where: string): void {
  const lacking = (what: string): Failure =>
    new Failure('upload-unprotected', `${where} was delivered, but ${what}.`, {
      kept: 'The bundle is kept on this node as well.',
      remedy: 'Enable Object Lock and encryption for the bucket, or ask for neither in the upload URL.',
    });
  if (sse !== undefined && answer.ServerSideEncryption !== sse) {
    throw lacking(
      `is encrypted with ${answer.ServerSideEncryption ?? 'nothing that the store names'}, not ${sse}`,
    );
  }
  if (lock === undefined) return;
  const mode = answer.ObjectLockMode;
  const until = answer.ObjectLockRetainUntilDate;
  if (mode === undefined || until === undefined) throw lacking('the store holds it under no Object Lock');
  if (mode !== lock.mode && mode !== 'COMPLIANCE') throw lacking(`its Object Lock is ${mode}`);
  const stored = answer.LastModified?.getTime() ?? Date.now();
  if (until.getTime() < stored + lock.retainMilliseconds - longestUpload) {
    throw lacking(`its Object Lock ends on ${until.toISOString()}, too early`);
  }
}
