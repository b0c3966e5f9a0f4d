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

export function s3Failure(error: unknown, target: S3Target): Failure {
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
