// The sentences for what the S3 SDK throws.
import { Failure, reasonOf } from '../host/failure.ts';
import { corrupt, kept } from './delivery.ts';
import type { UploadTarget } from './upload-target.ts';

export type S3Target = Extract<UploadTarget, { kind: 's3' }>;

export const httpStatus = (error: unknown): number | undefined =>
  (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;

/** The region that the bucket is in, where the store says that the request went to another. */
export function regionElsewhere(error: unknown): string | undefined {
  const {
    name,
    Region,
    $response: response,
  } = error as {
    name?: string;
    Region?: string;
    $response?: { headers?: Record<string, string> };
  };
  const told = response?.headers?.['x-amz-bucket-region'] ?? Region;
  const redirected = httpStatus(error) === 301 || name === 'AuthorizationHeaderMalformed';
  return redirected && told !== undefined && /^[a-z0-9-]{1,64}$/.test(told) ? told : undefined;
}

/** What the store was asked for; failures are named after it. */
export type S3Use = 'upload' | 'download';

/** `USE-denied`, `-bucket-missing`, `-refused`, `-unreachable`, `-corrupt`; `s3-credentials` where there are none. */
export function s3Failure(error: unknown, target: S3Target, use: S3Use): Failure {
  if (error instanceof Failure) return error;
  const name = error instanceof Error ? error.name : '';
  const status = httpStatus(error);
  const place = target.endpoint ?? `S3 in ${target.region}`;
  // A store gives no reason to HEAD, nor does a proxy that answers in its place; the SDK then has words of its own.
  const mute = name === 'Unknown';
  const said = mute ? `${status ?? 'an answer'} without a reason` : `${name}: ${reasonOf(error)}`;
  const failure = (code: string, message: string, remedy: string) =>
    new Failure(code, message, { ...(use === 'upload' ? { kept } : {}), remedy, cause: error });
  if (/checksum mismatch/i.test(reasonOf(error)))
    return corrupt(`s3://${target.bucket}`, reasonOf(error), use, error);
  if (name === 'CredentialsProviderError' || name === 'TokenProviderError') {
    return failure(
      's3-credentials',
      `There are no S3 credentials (${reasonOf(error)}).`,
      use === 'upload'
        ? 'Name a file in courier.s3_credentials_file, or give the courier what the AWS SDK looks for: variables, a profile, a role.'
        : 'Give them as the AWS SDK looks for them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, a role.',
    );
  }
  if (name === 'NoSuchBucket') {
    return failure(
      `${use}-bucket-missing`,
      `${place} has no bucket ${target.bucket}.`,
      `Create the bucket, or correct the URL.`,
    );
  }
  if (status === 400 || status === 401 || status === 403 || status === 301) {
    return failure(
      `${use}-denied`,
      `${place} denied the ${use} (${said}).`,
      `Check the credentials, the region and the clock here.`,
    );
  }
  if (status !== undefined) {
    return failure(
      `${use}-refused`,
      `${place} refused the ${use} with ${status}${mute ? ', and without a reason' : ` (${said})`}.`,
      'Wait, or look at the state of the store if it stays so.',
    );
  }
  return failure(
    `${use}-unreachable`,
    `${place} cannot be reached (${said}).`,
    use === 'upload'
      ? "Check the endpoint and the node's way there; the firewall must let the courier out."
      : 'Check the endpoint and the way there.',
  );
}
