// The body of a request, as its x-amz-content-sha256 says it was sent: plain, or in aws-chunked framing with signed
// chunks, trailers, or both (Amazon S3 API reference, "Signature calculations: transferring payload in multiple chunks").
import { createHash } from 'node:crypto';
import { type ChecksumAlgorithm, checksum, checksumAlgorithms } from './checksum.ts';
import { invalidRequest, notImplemented, S3Error } from './error.ts';
import { chunkSignature, equal, type SigningContext, sha256 } from './signature.ts';

export interface Payload {
  readonly bytes: Buffer;
  /** What the client declared, already compared with the content; undefined where it declared none. */
  readonly checksum: { readonly algorithm: ChecksumAlgorithm; readonly value: string } | undefined;
  readonly md5Declared: boolean;
}

const framings: Readonly<Record<string, { signed: boolean; trailer: boolean }>> = {
  'STREAMING-UNSIGNED-PAYLOAD-TRAILER': { signed: false, trailer: true },
  'STREAMING-AWS4-HMAC-SHA256-PAYLOAD': { signed: true, trailer: false },
  'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER': { signed: true, trailer: true },
};

export function receivePayload(
  body: Buffer,
  headers: Readonly<Record<string, string>>,
  payloadHash: string,
  context: SigningContext,
): Payload {
  const framing = framings[payloadHash];
  const encoded = (headers['content-encoding'] ?? '').split(/\s*,\s*/).includes('aws-chunked');
  let bytes = body;
  let trailers: Record<string, string> = {};
  if (framing !== undefined) {
    ({ bytes, trailers } = decodeChunks(body, framing, context));
    checkTrailerNames(headers['x-amz-trailer'], trailers, framing.trailer);
    if (headers['x-amz-decoded-content-length'] !== String(bytes.length)) {
      throw new S3Error(400, 'IncompleteBody', 'The body does not have the announced decoded length.');
    }
  } else if (encoded || headers['x-amz-trailer'] !== undefined) {
    throw notImplemented(`aws-chunked with the payload hash ${payloadHash}`);
  } else if (/^[0-9a-f]{64}$/.test(payloadHash)) {
    if (sha256(bytes) !== payloadHash) {
      throw new S3Error(
        400,
        'XAmzContentSHA256Mismatch',
        'The x-amz-content-sha256 does not match the content.',
      );
    }
  } else if (payloadHash !== 'UNSIGNED-PAYLOAD') {
    throw notImplemented(`the payload hash ${payloadHash}`);
  }
  const declaredMd5 = headers['content-md5'];
  if (declaredMd5 !== undefined) checkMd5(declaredMd5, bytes);
  return {
    bytes,
    checksum: declaredChecksum({ ...headers, ...trailers }, bytes),
    md5Declared: declaredMd5 !== undefined,
  };
}

function checkMd5(declared: string, bytes: Buffer): void {
  if (Buffer.from(declared, 'base64').length !== 16) {
    throw new S3Error(400, 'InvalidDigest', 'The Content-MD5 you specified is not valid.');
  }
  if (declared !== md5Base64(bytes)) {
    throw new S3Error(400, 'BadDigest', 'The Content-MD5 you specified did not match what we received.');
  }
}

function declaredChecksum(fields: Readonly<Record<string, string>>, bytes: Buffer): Payload['checksum'] {
  const declared = checksumAlgorithms.flatMap((algorithm) => {
    const value = fields[`x-amz-checksum-${algorithm}`];
    return value === undefined ? [] : [{ algorithm, value }];
  });
  if (declared.length > 1) throw invalidRequest('Expecting a single x-amz-checksum- header.');
  const [only] = declared;
  if (only !== undefined && checksum(only.algorithm, bytes) !== only.value) {
    const name = only.algorithm.toUpperCase();
    throw new S3Error(400, 'BadDigest', `The ${name} you specified did not match the calculated checksum.`);
  }
  return only;
}

function checkTrailerNames(
  announced: string | undefined,
  trailers: Readonly<Record<string, string>>,
  expected: boolean,
): void {
  const names = Object.keys(trailers);
  const missing = (announced?.split(/\s*,\s*/) ?? []).some((name) => !names.includes(name.toLowerCase()));
  const surplus = names.some((name) => name !== announced?.toLowerCase());
  if (missing || surplus || (expected && announced === undefined)) {
    throw new S3Error(400, 'MalformedTrailerError', 'The trailers are not those that were announced.');
  }
}

/** `hex-size[;chunk-signature=…]\r\n data \r\n`, a last chunk of size 0, then trailers and an empty line. */
export function decodeChunks(
  body: Buffer,
  framing: { signed: boolean; trailer: boolean },
  context: SigningContext,
): { bytes: Buffer; trailers: Record<string, string> } {
  let at = 0;
  const line = (): string => {
    const end = body.indexOf('\r\n', at);
    if (end === -1) throw incomplete();
    const text = body.toString('latin1', at, end);
    at = end + 2;
    return text;
  };
  const chunks: Buffer[] = [];
  let signature = context.signature;
  for (;;) {
    const [, hex, , claimed] = /^([0-9a-fA-F]{1,8})(;chunk-signature=([0-9a-f]{64}))?$/.exec(line()) ?? [];
    if (hex === undefined) throw invalidRequest('A chunk header is malformed.');
    const size = Number.parseInt(hex, 16);
    if (at + size > body.length) throw incomplete();
    const data = body.subarray(at, at + size);
    at += size;
    if (framing.signed) {
      signature = chunkSignature(context, 'PAYLOAD', signature, data);
      if (!equal(signature, claimed ?? '')) throw wrongSignature();
    }
    if (size === 0) break;
    chunks.push(data);
    if (line() !== '') throw invalidRequest('A chunk does not have its announced size.');
  }
  const trailers: Record<string, string> = {};
  for (let text = line(); text !== ''; text = at < body.length ? line() : '') {
    const [, name, value] = /^([A-Za-z0-9-]+):\s*(.*?)\s*$/.exec(text) ?? [];
    if (name === undefined || value === undefined || !framing.trailer) {
      throw new S3Error(400, 'MalformedTrailerError', 'The trailers are malformed.');
    }
    trailers[name.toLowerCase()] = value;
  }
  if (at !== body.length) throw invalidRequest('Data follows the last chunk.');
  if (framing.signed && framing.trailer) {
    const { 'x-amz-trailer-signature': claimed = '', ...rest } = trailers;
    const text = Object.entries(rest)
      .map(([name, value]) => `${name}:${value}\n`)
      .join('');
    if (!equal(chunkSignature(context, 'TRAILER', signature, text), claimed)) throw wrongSignature();
    return { bytes: Buffer.concat(chunks), trailers: rest };
  }
  return { bytes: Buffer.concat(chunks), trailers };
}

const incomplete = () => new S3Error(400, 'IncompleteBody', 'The body ends before its last chunk.');
const wrongSignature = () =>
  new S3Error(403, 'SignatureDoesNotMatch', 'The signature of a chunk does not match its content.');

export const md5 = (bytes: Uint8Array): Buffer => createHash('md5').update(bytes).digest();
const md5Base64 = (bytes: Uint8Array): string => md5(bytes).toString('base64');
