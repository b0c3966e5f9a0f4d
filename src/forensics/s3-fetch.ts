// Bundles from S3 for whoever verifies them: what lies under a prefix, and one object into a file, never more of it than asked for
// (Amazon S3 API reference: ListObjectsV2, GetObject).
import { open } from 'node:fs/promises';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { withClient } from './s3-client.ts';
import { httpStatus, intercepted, isPage, type S3Target } from './s3-failure.ts';

export interface S3Place {
  readonly target: S3Target;
  readonly signal: AbortSignal;
}

/** All keys under a prefix, in the order of the store. @throws Failure `download-…`; `bundles-too-many` where there are over `most`. */
export async function listObjects(
  { target, signal }: S3Place,
  prefix: string,
  most: number,
): Promise<string[]> {
  const { ListObjectsV2Command } = await import('@aws-sdk/client-s3');
  const found = await withClient({ target, use: 'download', signal }, async (client, { bucket }) => {
    const keys: string[] = [];
    let token: string | undefined;
    do {
      const page = await client.send(
        new ListObjectsV2Command({
          Bucket: bucket,
          Prefix: prefix,
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
        { abortSignal: signal },
      );
      if (page.Name === undefined)
        throw intercepted(target, 'download', 'something that is no list of objects');
      keys.push(...(page.Contents ?? []).flatMap(({ Key }) => (Key === undefined ? [] : [Key])));
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined && keys.length <= most);
    return keys;
  });
  // A list that is cut would miss bundles that are there.
  if (found.length > most) {
    throw new Failure(
      'bundles-too-many',
      `There are over ${most} objects at s3://${target.bucket}/${prefix}.`,
      { remedy: 'Verify them by node or by year.', status: exitStatus.usage },
    );
  }
  return found;
}

/**
 * Writes the first `most` bytes of an object to a new file, for its owner alone; leaves no file where there is no such object. The
 * store's checksum is compared where it has one. @throws Failure `download-…`; of them `download-unwritable` is about this host.
 */
export async function fetchObject(
  { target, signal }: S3Place,
  key: string,
  path: string,
  most: number,
): Promise<void> {
  const { GetObjectCommand } = await import('@aws-sdk/client-s3');
  await withClient({ target, use: 'download', signal }, async (client, { bucket }) => {
    const answer = await client
      .send(new GetObjectCommand({ Bucket: bucket, Key: key, ChecksumMode: 'ENABLED' }), {
        abortSignal: signal,
      })
      .catch((error: unknown) => {
        if (httpStatus(error) === 404 && (error as Error).name === 'NoSuchKey') return undefined;
        throw error;
      });
    if (answer === undefined) return;
    if (isPage(answer))
      throw intercepted(target, 'download', `a page (${answer.ContentType ?? 'of no type'})`);
    await using file = await writing(path, open(path, 'w', 0o600));
    let left = most;
    for await (const chunk of answer.Body as AsyncIterable<Uint8Array>) {
      await writing(path, file.writeFile(chunk.subarray(0, left)));
      left -= Math.min(left, chunk.length);
      if (left === 0) break;
    }
  });
}

async function writing<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw new Failure(
      'download-unwritable',
      `What is fetched cannot be written to ${path}: ${reasonOf(error)}.`,
      {
        remedy: 'Make room there, or name a directory that has some in TMPDIR.',
        cause: error,
      },
    );
  }
}
