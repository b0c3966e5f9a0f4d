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

/** What an answer tells of who gave it. */
interface Answered {
  readonly ETag?: string | undefined;
  readonly ContentType?: string | undefined;
}

/** Whether an answer about an object is none of a store's, each of which names an ETag: a page of whoever is in the way. */
export const isPage = ({ ETag, ContentType = '' }: Answered): boolean =>
  ETag === undefined || /^text\/html\b/i.test(ContentType);

/** Something answered that is no store: the login page of a guest network, a proxy. */
export const intercepted = (
  { endpoint, region }: Pick<S3Target, 'endpoint' | 'region'>,
  use: S3Use,
  how: string,
  cause?: unknown,
): Failure =>
  new Failure(
    `${use}-intercepted`,
    `${endpoint ?? `S3 in ${region}`} was not reached: something else answered in its place, with ${how}.`,
    {
      ...(use === 'upload' ? { kept } : {}),
      remedy:
        'Sign in to the network where it asks for that, have the proxy let it through, or correct the endpoint.',
      cause,
    },
  );

/** A status that no store has for what is asked of it: redirections to a login page, and RFC 6585, section 6. */
const isInTheWay = (status: number | undefined, mute: boolean): status is number =>
  status === 511 || (mute && status !== undefined && [302, 303, 307, 308].includes(status));

/**
 * `USE-denied`, `-bucket-missing`, `-refused`, `-unreachable`, `-intercepted`, `-corrupt`, `upload-unprotected`; `s3-credentials` where
 * there are none.
 */
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
  if (isInTheWay(status, mute)) return intercepted(target, use, `status ${status}`, error);
  if (name === 'InvalidRequest' && /object ?lock/i.test(reasonOf(error))) {
    return failure(
      'upload-unprotected',
      `The bucket ${target.bucket} holds nothing under Object Lock, which was asked for; nothing was written.`,
      'Give a bucket that was made with Object Lock, or ask for none in the upload URL.',
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
