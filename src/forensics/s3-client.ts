// The client of the S3 SDK, and what becomes of a request that went to another region than the bucket's.
import type { S3Client } from '@aws-sdk/client-s3';
import type { UploadCredentials } from './delivery.ts';
import { regionElsewhere, type S3Target, type S3Use, s3Failure } from './s3-failure.ts';

/** What goes wrong is thrown; without this the SDK also prints. */
const silent = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * With the credentials that were given; else with those that the SDK's own chain finds: environment, shared configuration,
 * web identity, container, instance.
 */
async function connect(
  target: S3Target,
  credentials: UploadCredentials | undefined,
  idleMilliseconds = 300_000,
): Promise<S3Client> {
  const { S3Client } = await import('@aws-sdk/client-s3');
  return new S3Client({
    region: target.region,
    ...(credentials === undefined ? {} : { credentials }),
    logger: silent,
    // Each request says whether it has a checksum, and whether it asks for one.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // None for a whole request: over a thin line a part takes minutes. The kernel holds some MB of it, which pass in silence.
    requestHandler: { connectionTimeout: 10_000, socketTimeout: idleMilliseconds },
    ...(target.endpoint === undefined ? {} : { endpoint: target.endpoint, forcePathStyle: true }),
  });
}

/**
 * Works with a client of the bucket's region: where the store names another than the target's, once more there.
 * @throws Failure, see `s3Failure`; the signal's reason when aborted.
 */
export async function withClient<T>(
  {
    target,
    use,
    credentials,
    idleMilliseconds,
    signal,
  }: {
    readonly target: S3Target;
    readonly use: S3Use;
    readonly credentials?: UploadCredentials | undefined;
    readonly idleMilliseconds?: number | undefined;
    readonly signal: AbortSignal;
  },
  work: (client: S3Client, target: S3Target) => Promise<T>,
): Promise<T> {
  const attempt = async (place: S3Target): Promise<T> => {
    const client = await connect(place, credentials, idleMilliseconds);
    try {
      return await work(client, place);
    } finally {
      client.destroy();
    }
  };
  try {
    return await attempt(target);
  } catch (error) {
    signal.throwIfAborted();
    const region = regionElsewhere(error);
    if (region === undefined || region === target.region) throw s3Failure(error, target, use);
    const there = { ...target, region };
    return await attempt(there).catch((second: unknown) => {
      signal.throwIfAborted();
      throw s3Failure(second, there, use);
    });
  }
}
