// AWS Signature Version 4 as S3 checks it: Authorization header, presigned URL, signed chunks (Amazon S3 API reference,
// "Authenticating requests"). Left out: SigV4A, POST policies, signatures of version 2.
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { S3Error } from './error.ts';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface SignedRequest {
  readonly method: string;
  /** As sent: percent-encoded, with its leading slash. */
  readonly path: string;
  readonly query: readonly (readonly [string, string])[];
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
}

/** What chunk signatures continue from. */
export interface SigningContext {
  readonly key: Buffer;
  /** `20130524T000000Z` */
  readonly time: string;
  /** `20130524/us-east-1/s3/aws4_request` */
  readonly scope: string;
  readonly signature: string;
}

const algorithm = 'AWS4-HMAC-SHA256';
const skewLimitMilliseconds = 15 * 60_000;
const longestExpirySeconds = 604_800;
const denied = (message: string) => new S3Error(403, 'AccessDenied', message);

/** @returns the payload hash that was signed and the context for chunks. @throws S3Error as S3 would answer. */
export function authenticate(
  request: SignedRequest,
  rules: { credentials: Credentials; region: string; now: Date },
): { payloadHash: string; context: SigningContext } {
  const presigned = request.query.some(([name]) => name === 'X-Amz-Signature');
  const claim = presigned ? presignedClaim(request) : headerClaim(request);
  const [accessKeyId, date, region, service, end, ...rest] = claim.credential.split('/');
  if (service !== 's3' || end !== 'aws4_request' || rest.length > 0 || date !== claim.time.slice(0, 8)) {
    throw malformed(presigned, 'The credential scope is malformed.');
  }
  if (accessKeyId !== rules.credentials.accessKeyId) {
    throw new S3Error(403, 'InvalidAccessKeyId', 'The access key ID does not exist in our records.');
  }
  if (region !== rules.region) {
    throw malformed(presigned, `the region '${region}' is wrong; expecting '${rules.region}'`, {
      Region: rules.region,
    });
  }
  checkTime(claim, rules.now);
  if (claim.token !== rules.credentials.sessionToken) {
    throw new S3Error(400, 'InvalidToken', 'The provided token is malformed or otherwise invalid.');
  }
  const unsigned = Object.keys(request.headers).find(
    (name) => (name === 'host' || name.startsWith('x-amz-')) && !claim.signedHeaders.includes(name),
  );
  if (unsigned !== undefined) {
    throw new S3Error(
      403,
      'AccessDenied',
      'There were headers present in the request which were not signed',
      {
        HeadersNotSigned: unsigned,
      },
    );
  }
  const key = signingKey(rules.credentials.secretAccessKey, date, region);
  const scope = `${date}/${region}/s3/aws4_request`;
  const canonical = canonicalRequest(request, claim.signedHeaders, claim.payloadHash);
  const expected = hmac(key, [algorithm, claim.time, scope, sha256(canonical)].join('\n')).toString('hex');
  if (!equal(expected, claim.signature)) {
    throw new S3Error(
      403,
      'SignatureDoesNotMatch',
      'The request signature we calculated does not match the signature you provided.',
      { CanonicalRequest: canonical },
    );
  }
  return { payloadHash: claim.payloadHash, context: { key, time: claim.time, scope, signature: expected } };
}

interface Claim {
  readonly credential: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
  readonly time: string;
  readonly payloadHash: string;
  readonly token: string | undefined;
  /** Only of a presigned URL. */
  readonly expiresSeconds?: number;
}

function headerClaim({ headers }: SignedRequest): Claim {
  const authorization = headers.authorization;
  if (authorization === undefined) throw denied('Access Denied');
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^,]+),\s*SignedHeaders=([^,]+),\s*Signature=([0-9a-f]{64})$/.exec(
      authorization,
    );
  const [, credential, signedHeaders, signature] = match ?? [];
  const time = headers['x-amz-date'];
  const payloadHash = headers['x-amz-content-sha256'];
  if (credential === undefined || signedHeaders === undefined || signature === undefined) {
    throw malformed(false, 'The authorization header that you provided is not valid.');
  }
  if (time === undefined) throw denied('AWS authentication requires a valid Date or x-amz-date header');
  if (payloadHash === undefined) {
    throw new S3Error(
      400,
      'InvalidRequest',
      'Missing required header for this request: x-amz-content-sha256',
    );
  }
  return {
    credential,
    signedHeaders: signedHeaders.split(';'),
    signature,
    time,
    payloadHash,
    token: headers['x-amz-security-token'],
  };
}

function presignedClaim({ query, headers }: SignedRequest): Claim {
  if (headers.authorization !== undefined) {
    throw new S3Error(400, 'InvalidArgument', 'Only one auth mechanism allowed');
  }
  const parameters = new Map(query);
  const required = (name: string): string => {
    const value = parameters.get(name);
    if (value === undefined) throw malformed(true, `Query-string authentication requires ${name}.`);
    return value;
  };
  if (required('X-Amz-Algorithm') !== algorithm) throw malformed(true, 'X-Amz-Algorithm is not supported.');
  const expiresSeconds = Number(required('X-Amz-Expires'));
  if (!(expiresSeconds >= 1 && expiresSeconds <= longestExpirySeconds)) {
    throw malformed(true, 'X-Amz-Expires must be between 1 and 604800 seconds.');
  }
  return {
    credential: required('X-Amz-Credential'),
    signedHeaders: required('X-Amz-SignedHeaders').split(';'),
    signature: required('X-Amz-Signature'),
    time: required('X-Amz-Date'),
    payloadHash:
      parameters.get('X-Amz-Content-Sha256') ?? headers['x-amz-content-sha256'] ?? 'UNSIGNED-PAYLOAD',
    token: parameters.get('X-Amz-Security-Token'),
    expiresSeconds,
  };
}

function checkTime(claim: Claim, now: Date): void {
  const signedAt = Date.parse(
    claim.time.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'),
  );
  if (Number.isNaN(signedAt)) throw denied('AWS authentication requires a valid Date or x-amz-date header');
  const age = now.getTime() - signedAt;
  const tooOld = claim.expiresSeconds === undefined && age > skewLimitMilliseconds;
  if (tooOld || age < -skewLimitMilliseconds) {
    throw new S3Error(
      403,
      'RequestTimeTooSkewed',
      'The difference between the request time and the current time is too large.',
      { ServerTime: now.toISOString() },
    );
  }
  if (claim.expiresSeconds !== undefined && age > claim.expiresSeconds * 1000) {
    throw denied('Request has expired');
  }
}

export function canonicalRequest(
  request: SignedRequest,
  signedHeaders: readonly string[],
  payloadHash: string,
): string {
  const query = request.query
    .filter(([name]) => name !== 'X-Amz-Signature')
    .map(([name, value]) => [uriEncode(name), uriEncode(value)] as const)
    .sort(([a, x], [b, y]) => (a === b ? compare(x, y) : compare(a, b)))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
  const path = request.path.split('/').map((segment) => uriEncode(decodeURIComponent(segment)));
  return [
    request.method,
    path.join('/'),
    query,
    ...signedHeaders.map((name) => `${name}:${(request.headers[name] ?? '').trim().replace(/ +/g, ' ')}`),
    '',
    signedHeaders.join(';'),
    payloadHash,
  ].join('\n');
}

export function signingKey(secret: string, date: string, region: string): Buffer {
  return [date, region, 's3', 'aws4_request'].reduce<Buffer>(hmac, Buffer.from(`AWS4${secret}`));
}

/** The signature of a chunk of data, or of the trailers, that follows `previous`. */
export function chunkSignature(
  context: SigningContext,
  kind: 'PAYLOAD' | 'TRAILER',
  previous: string,
  bytes: Uint8Array | string,
): string {
  const lines = [`${algorithm}-${kind}`, context.time, context.scope, previous];
  if (kind === 'PAYLOAD') lines.push(sha256(''));
  return hmac(context.key, [...lines, sha256(bytes)].join('\n')).toString('hex');
}

export const sha256 = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('hex');

export const equal = (a: string, b: string): boolean =>
  a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));

const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** RFC 3986: everything but unreserved characters. */
const uriEncode = (text: string): string =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );

function malformed(presigned: boolean, message: string, details: Record<string, string> = {}): S3Error {
  const code = presigned ? 'AuthorizationQueryParametersError' : 'AuthorizationHeaderMalformed';
  return new S3Error(400, code, message, details);
}
