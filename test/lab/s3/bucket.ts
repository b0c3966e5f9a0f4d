// A bucket: objects, conditional writes, Object Lock. One version a key; where S3 would keep a locked version behind a
// new one or a delete marker, this bucket refuses, so that a test sees the attempt.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { type ChecksumAlgorithm, checksum } from './checksum.ts';
import { invalidRequest, notImplemented, S3Error } from './error.ts';
import { md5, type Payload } from './payload.ts';

export interface StoredObject {
  readonly bytes: Buffer;
  /** With its quotation marks. */
  readonly etag: string;
  /** By algorithm in lower case; base64, and `-parts` after a composite one. */
  readonly checksums: Readonly<Partial<Record<ChecksumAlgorithm, string>>>;
  readonly checksumType: 'FULL_OBJECT' | 'COMPOSITE';
  /** The `x-amz-meta-` headers without that prefix. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly contentType: string;
  readonly modified: Date;
  readonly lock: ObjectLock | undefined;
  /** As the request named it; nothing is encrypted here. */
  readonly encryption: string | undefined;
}

export interface ObjectLock {
  readonly retention: { readonly mode: 'GOVERNANCE' | 'COMPLIANCE'; readonly until: Date } | undefined;
  readonly legalHold: boolean;
}

type Headers = Readonly<Record<string, string>>;
export type Attributes = Pick<StoredObject, 'metadata' | 'contentType' | 'lock' | 'encryption'>;
export type Content = Pick<StoredObject, 'bytes' | 'etag' | 'checksums' | 'checksumType'>;

export class Bucket {
  readonly name: string;
  readonly objects = new Map<string, StoredObject>();
  readonly #directory: string | undefined;
  readonly #lockable: boolean;

  constructor(name: string, directory: string | undefined, lockable: boolean) {
    this.name = name;
    this.#lockable = lockable;
    this.#directory = directory === undefined ? undefined : join(directory, name);
    if (this.#directory !== undefined) mkdirSync(this.#directory, { recursive: true });
  }

  get(key: string): StoredObject {
    const object = this.objects.get(key);
    if (object === undefined) {
      throw new S3Error(404, 'NoSuchKey', 'The specified key does not exist.', { Key: key });
    }
    return object;
  }

  put(key: string, content: Content, attributes: Attributes, headers: Headers, now: Date): StoredObject {
    const present = this.objects.get(key);
    const condition = headers['if-none-match'];
    if (condition !== undefined && condition !== '*') throw notImplemented('If-None-Match other than *');
    if (condition === '*' && present !== undefined) {
      throw new S3Error(412, 'PreconditionFailed', 'At least one of the pre-conditions did not hold', {
        Condition: 'If-None-Match',
      });
    }
    if (present !== undefined) refuseLocked(present, headers, now);
    const object = { ...content, ...attributes, modified: now };
    this.#writeFile(key, object.bytes);
    this.objects.set(key, object);
    return object;
  }

  /** To be asked before anything of an object is taken. */
  requireLockable({ lock }: Attributes): void {
    if (lock !== undefined && !this.#lockable)
      throw invalidRequest('Bucket is missing ObjectLockConfiguration');
  }

  delete(key: string, headers: Headers, now: Date): void {
    const present = this.objects.get(key);
    if (present === undefined) return;
    refuseLocked(present, headers, now);
    this.objects.delete(key);
    if (this.#directory !== undefined) rmSync(this.#path(this.#directory, key), { force: true });
  }

  #writeFile(key: string, bytes: Buffer): void {
    if (this.#directory === undefined) return;
    const path = this.#path(this.#directory, key);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
  }

  #path(directory: string, key: string): string {
    const path = normalize(join(directory, key));
    if (!path.startsWith(`${directory}/`)) throw notImplemented('keys that leave the directory');
    return path;
  }
}

/** What an object is when it arrives whole. */
export function wholeContent({ bytes, checksum: declared }: Payload): Content {
  const { algorithm, value } = declared ?? {
    algorithm: 'crc64nvme' as const,
    value: checksum('crc64nvme', bytes),
  };
  return {
    bytes,
    etag: `"${md5(bytes).toString('hex')}"`,
    checksums: { [algorithm]: value },
    checksumType: 'FULL_OBJECT',
  };
}

export function attributesOf(headers: Headers, now: Date): Attributes {
  const prefix = 'x-amz-meta-';
  const metadata = Object.entries(headers)
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, value]) => [name.slice(prefix.length), value] as const);
  return {
    metadata: Object.fromEntries(metadata),
    contentType: headers['content-type'] ?? 'binary/octet-stream',
    lock: lockOf(headers, now),
    encryption: headers['x-amz-server-side-encryption'],
  };
}

function lockOf(headers: Headers, now: Date): ObjectLock | undefined {
  const mode = headers['x-amz-object-lock-mode'];
  const until = headers['x-amz-object-lock-retain-until-date'];
  const hold = headers['x-amz-object-lock-legal-hold'];
  if (hold !== undefined && hold !== 'ON' && hold !== 'OFF')
    throw invalidArgument('Legal Hold must be ON or OFF.');
  const legalHold = hold === 'ON';
  if (mode === undefined && until === undefined)
    return legalHold ? { retention: undefined, legalHold } : undefined;
  if (mode === undefined || until === undefined) {
    throw invalidArgument(
      'x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied',
    );
  }
  if (mode !== 'GOVERNANCE' && mode !== 'COMPLIANCE') throw invalidArgument('Unknown wormMode directive.');
  const date = new Date(until);
  if (!(date > now)) throw invalidArgument('The retain until date must be in the future!');
  return { retention: { mode, until: date }, legalHold };
}

/** S3 asks for a content checksum with every lock, so that nothing damaged is locked in. */
export function requireChecksumForLock(attributes: Attributes, payload: Payload): void {
  if (attributes.lock === undefined || payload.md5Declared || payload.checksum !== undefined) return;
  throw invalidRequest(
    'Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters',
  );
}

function refuseLocked({ lock }: StoredObject, headers: Headers, now: Date): void {
  if (lock === undefined) return;
  const bypass = headers['x-amz-bypass-governance-retention'] === 'true';
  const retained =
    lock.retention !== undefined &&
    lock.retention.until > now &&
    !(bypass && lock.retention.mode === 'GOVERNANCE');
  if (retained || lock.legalHold) {
    throw new S3Error(403, 'AccessDenied', 'Access Denied because object protected by object lock.');
  }
}

export const invalidArgument = (message: string): S3Error => new S3Error(400, 'InvalidArgument', message);
