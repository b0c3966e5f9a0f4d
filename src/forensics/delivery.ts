// What every delivery of a bundle needs, wherever it goes: what is asked, what a file measures, and the comparison of what
// was read back.
import { createHash } from 'node:crypto';
import { openSync } from 'node:fs';
import { basename } from 'node:path';
import { chunksOf } from '../host/chunks.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import type { UploadTarget } from './upload-target.ts';

export interface UploadCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface DeliveryProgress {
  readonly file: string;
  readonly phase: 'upload' | 'read back';
  readonly bytes: number;
  readonly total: number;
}

export interface Delivery {
  /** Paths of the archive and its `.sigstore.json`, delivered in this order under their own names. */
  readonly files: readonly string[];
  /**
   * SHA-256 in hex, by path, of files as they were made: nothing else is delivered under their names, and a large one need not be read
   * before it is sent. Files that are not in it are delivered as they are found.
   */
  readonly sha256?: ReadonlyMap<string, string>;
  readonly target: UploadTarget;
  /** Asked once, and only for S3; undefined leaves it to the chain of the AWS SDK. */
  readonly credentials: () => Promise<UploadCredentials | undefined>;
  /** Where the state of unfinished uploads is kept, so that another process goes on with them. Default: not kept. */
  readonly stateDirectory?: string;
  /** Of one part of a large upload; what is not larger goes in one request. Default 8 MiB, more for huge files. */
  readonly partBytes?: number;
  /** A connection to the store on which nothing moves for so long is given up, and the request made again. Default 300,000. */
  readonly idleMilliseconds?: number;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: DeliveryProgress) => void;
}

/** What has been read back from where it went. */
export interface Delivered {
  readonly file: string;
  /** `s3://bucket/key` or `file:///path`, percent-encoded. */
  readonly where: string;
  readonly size: number;
  readonly sha256: string;
  /** Where the bucket keeps versions. */
  readonly version?: string;
  /** Where the store holds it under Object Lock; `until` in RFC 3339. */
  readonly lock?: { readonly mode: 'GOVERNANCE' | 'COMPLIANCE'; readonly until: string };
}

export const kept = 'The bundle is kept on this node, and its delivery will be tried again.';

export interface Measured {
  readonly size: number;
  readonly sha256: string;
}

const chunkBytes = 1 << 20;

/** @throws Failure `upload-source-missing`; `upload-source-damaged` where it is not what `delivery` says. */
export async function measure(file: string, { signal, sha256: signed }: Delivery): Promise<Measured> {
  try {
    const measured = await digest(chunksOf(openSync(file, 'r'), chunkBytes), () => signal.throwIfAborted());
    requireUnchanged(file, signed?.get(file) ?? measured.sha256, measured.sha256);
    return measured;
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof Failure ? error : sourceFailure(file, error);
  }
}

/** @throws Failure `upload-source-damaged`. */
export function requireUnchanged(file: string, was: string, is: string): void {
  if (is === was) return;
  throw new Failure(
    'upload-source-damaged',
    `${basename(file)} is not what it was: its SHA-256 is ${is}, and was ${was}.`,
    {
      kept: 'It stays on this node as it is, and nothing was stored under its name.',
      remedy: 'Find out what changed it (the disk, or somebody), and collect another bundle.',
    },
  );
}

export const sourceFailure = (file: string, cause: unknown): Failure =>
  new Failure('upload-source-missing', `${file} cannot be read: ${reasonOf(cause)}.`, {
    remedy: 'Look for the bundle with `esoteric-appliance status`, or collect another.',
    cause,
  });

export async function digest(
  stream: AsyncIterable<Uint8Array>,
  onChunk: (chunk: Uint8Array) => void,
): Promise<Measured> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of stream) {
    onChunk(chunk);
    hash.update(chunk);
    size += chunk.length;
  }
  return { size, sha256: hash.digest('hex') };
}

export function requireSame(local: Measured, remote: Measured, where: string, alreadyThere: boolean): void {
  if (remote.sha256 === local.sha256) return;
  if (alreadyThere) {
    throw new Failure('upload-conflict', `Other content already lies at ${where}; it was not overwritten.`, {
      kept,
      remedy: 'Find out who wrote it there, or give the upload another prefix.',
    });
  }
  throw corrupt(
    where,
    `sent ${local.size} bytes with SHA-256 ${local.sha256}, got ${remote.size} with ${remote.sha256}`,
  );
}

export const corrupt = (
  where: string,
  why: string,
  use: 'upload' | 'download' = 'upload',
  cause?: unknown,
): Failure =>
  use === 'download'
    ? new Failure(
        'download-corrupt',
        `What came from ${where} is not what the store says it holds: ${why}.`,
        {
          remedy: 'Fetch it again; if it stays so, do not rely on that store.',
          cause,
        },
      )
    : new Failure('upload-corrupt', `What was read back from ${where} is not what was sent: ${why}.`, {
        kept: 'The bundle is kept on this node; the damaged copy was left where it is, as evidence.',
        remedy: 'Do not rely on that store before its damage is explained; upload to another.',
        cause,
      });

export function counter(
  { onProgress }: Delivery,
  file: string,
  phase: DeliveryProgress['phase'],
  total: number,
) {
  let bytes = 0;
  return (chunk: { readonly length: number }): void => {
    bytes += chunk.length;
    onProgress?.({ file, phase, bytes, total });
  };
}
