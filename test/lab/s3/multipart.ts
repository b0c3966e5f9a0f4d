// Multipart uploads (Amazon S3 API reference: CreateMultipartUpload, UploadPart, CompleteMultipartUpload).
import { randomUUID } from 'node:crypto';
import type { Attributes, Content } from './bucket.ts';
import { type ChecksumAlgorithm, checksum, isChecksumAlgorithm, rawChecksum } from './checksum.ts';
import { invalidRequest, S3Error } from './error.ts';
import { md5, type Payload } from './payload.ts';

const smallestPart = 5 << 20;

interface Upload {
  readonly key: string;
  readonly algorithm: ChecksumAlgorithm;
  readonly type: Content['checksumType'];
  readonly attributes: Attributes;
  readonly parts: Map<number, { bytes: Buffer; etag: string }>;
}

type Headers = Readonly<Record<string, string>>;

export class Multipart {
  readonly #uploads = new Map<string, Upload>();

  create(key: string, headers: Headers, attributes: Attributes): string {
    const algorithm = (headers['x-amz-checksum-algorithm'] ?? 'CRC64NVME').toLowerCase();
    if (!isChecksumAlgorithm(algorithm)) {
      throw invalidRequest('Checksum algorithm provided is unsupported.');
    }
    const whole = algorithm === 'crc64nvme' ? 'FULL_OBJECT' : 'COMPOSITE';
    const type = headers['x-amz-checksum-type'] ?? whole;
    const possible = algorithm.startsWith('sha') ? 'COMPOSITE' : algorithm === 'crc64nvme' ? whole : type;
    if ((type !== 'FULL_OBJECT' && type !== 'COMPOSITE') || type !== possible) {
      throw invalidRequest(
        `The ${type} checksum type cannot be used with the ${algorithm} checksum algorithm.`,
      );
    }
    const id = randomUUID();
    this.#uploads.set(id, { key, algorithm, type, attributes, parts: new Map() });
    return id;
  }

  putPart(id: string, key: string, number: number, payload: Payload): string {
    const upload = this.#find(id, key);
    if (!(Number.isInteger(number) && number >= 1 && number <= 10_000)) {
      throw new S3Error(
        400,
        'InvalidArgument',
        'Part number must be an integer between 1 and 10000, inclusive',
      );
    }
    if (payload.checksum !== undefined && payload.checksum.algorithm !== upload.algorithm) {
      throw invalidRequest(`Checksum Type mismatch occurred, expected checksum Type: ${upload.algorithm}`);
    }
    const etag = `"${md5(payload.bytes).toString('hex')}"`;
    upload.parts.set(number, { bytes: payload.bytes, etag });
    return etag;
  }

  /** Assembles what the request names; `finish` afterwards forgets the upload. */
  assemble(
    id: string,
    key: string,
    document: string,
    headers: Headers,
  ): { content: Content; attributes: Attributes } {
    const upload = this.#find(id, key);
    const named = [...document.matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, part = '']) => ({
      number: Number(/<PartNumber>(\d+)<\/PartNumber>/.exec(part)?.[1]),
      etag: (/<ETag>(.*?)<\/ETag>/s.exec(part)?.[1] ?? '').replace(/&quot;|&#34;|"/g, ''),
      checksum: /<Checksum(\w+)>(.*?)<\/Checksum\w+>/s.exec(part),
    }));
    if (named.length === 0)
      throw new S3Error(400, 'MalformedXML', 'The XML you provided was not well-formed.');
    const parts = named.map(({ number, etag, checksum: claimed }, index) => {
      const part = upload.parts.get(number);
      const damaged = claimed !== null && part !== undefined && !partMatches(claimed, part.bytes);
      if (part === undefined || part.etag !== `"${etag}"` || damaged) {
        throw new S3Error(400, 'InvalidPart', 'One or more of the specified parts could not be found.');
      }
      if (number <= (named[index - 1]?.number ?? 0)) {
        throw new S3Error(400, 'InvalidPartOrder', 'The list of parts was not in ascending order.');
      }
      if (index < named.length - 1 && part.bytes.length < smallestPart) {
        throw new S3Error(
          400,
          'EntityTooSmall',
          'Your proposed upload is smaller than the minimum allowed size',
        );
      }
      return part.bytes;
    });
    const bytes = Buffer.concat(parts);
    const value =
      upload.type === 'FULL_OBJECT'
        ? checksum(upload.algorithm, bytes)
        : `${checksum(upload.algorithm, Buffer.concat(parts.map((part) => rawChecksum(upload.algorithm, part))))}-${parts.length}`;
    const declared = headers[`x-amz-checksum-${upload.algorithm}`];
    if (declared !== undefined && declared !== value) {
      throw new S3Error(
        400,
        'BadDigest',
        `The ${upload.algorithm} you specified did not match the calculated checksum.`,
      );
    }
    const content: Content = {
      bytes,
      etag: `"${md5(Buffer.concat(parts.map(md5))).toString('hex')}-${parts.length}"`,
      checksums: { [upload.algorithm]: value },
      checksumType: upload.type,
    };
    return { content, attributes: upload.attributes };
  }

  finish(id: string, key: string): void {
    this.#find(id, key);
    this.#uploads.delete(id);
  }

  #find(id: string, key: string): Upload {
    const upload = this.#uploads.get(id);
    if (upload?.key !== key) {
      throw new S3Error(404, 'NoSuchUpload', 'The specified multipart upload does not exist.');
    }
    return upload;
  }
}

function partMatches([, name = '', value]: RegExpExecArray, bytes: Buffer): boolean {
  const algorithm = name.toLowerCase();
  return isChecksumAlgorithm(algorithm) && checksum(algorithm, bytes) === value;
}
