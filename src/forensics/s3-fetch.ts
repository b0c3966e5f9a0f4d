// Bundles from S3 for whoever verifies them: what lies under a prefix, and one object into a file, never more of it than asked for
// (Amazon S3 API reference: ListObjectsV2, GetObject).
import { open } from 'node:fs/promises';
import { withClient } from './s3-client.ts';
import { httpStatus, type S3Target } from './s3-failure.ts';

export interface S3Place {
  readonly target: S3Target;
  readonly signal: AbortSignal;
}

/** At most `most` keys, in the order of the store. @throws Failure `download-…`. */
export async function listObjects(
  { target, signal }: S3Place,
  prefix: string,
  most: number,
): Promise<string[]> {
  const { ListObjectsV2Command } = await import('@aws-sdk/client-s3');
  return await withClient({ target, use: 'download', signal }, async (client, { bucket }) => {
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
      keys.push(...(page.Contents ?? []).flatMap(({ Key }) => (Key === undefined ? [] : [Key])));
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined && keys.length <= most);
    return keys;
  });
}

/**
 * Writes the first `most` bytes of an object to a new file, for its owner alone; leaves no file where there is no such object. The
 * store's checksum is compared where it has one. @throws Failure `download-…`.
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
      .send(new GetObjectCommand({ Bucket: bucket, Key: key }), { abortSignal: signal })
      .catch((error: unknown) => {
        if (httpStatus(error) === 404 && (error as Error).name === 'NoSuchKey') return undefined;
        throw error;
      });
    if (answer === undefined) return;
    await using file = await open(path, 'w', 0o600);
    let left = most;
    for await (const chunk of answer.Body as AsyncIterable<Uint8Array>) {
      await file.writeFile(chunk.subarray(0, left));
      left -= Math.min(left, chunk.length);
      if (left === 0) break;
    }
  });
}
