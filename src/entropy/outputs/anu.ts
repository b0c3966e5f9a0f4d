// Numbers as the ANU QRNG API gives them (qrng.anu.edu.au, "API documentation"): JSON arrays of uint8, uint16, or hexadecimal blocks.
import { Failure } from '../../host/failure.ts';

const types = ['uint8', 'uint16', 'hex16'] as const;
type NumberType = (typeof types)[number];
const mostNumbers = 1024;
const mostBlocks = 10;

export interface NumbersRequest {
  readonly type: NumberType;
  readonly length: number;
  /** Of hex16: groups of four digits in each element. */
  readonly size: number;
}

/** @throws Failure `request-invalid`. */
export function numbersRequest(query: URLSearchParams): NumbersRequest {
  const unknown = [...query.keys()].find((key) => !['type', 'length', 'size'].includes(key));
  if (unknown !== undefined) throw invalid(`\`${unknown}\` is not a parameter.`);
  const twice = [...query.keys()].find((key) => query.getAll(key).length > 1);
  if (twice !== undefined) throw invalid(`\`${twice}\` is given more than once.`);
  const type = types.find((known) => known === (query.get('type') ?? 'uint8'));
  if (type === undefined) throw invalid(`\`type\` is not one of ${types.join(', ')}.`);
  const length = integer(query.get('length') ?? '1', mostNumbers);
  if (length === undefined) throw invalid(`\`length\` is not a number from 1 to ${mostNumbers}.`);
  const size = integer(query.get('size') ?? '1', mostBlocks);
  if (size === undefined) throw invalid(`\`size\` is not a number from 1 to ${mostBlocks}.`);
  return { type, length, size };
}

/** Random bytes that the answer needs. */
export const bytesOf = ({ type, length, size }: NumbersRequest): number =>
  length * (type === 'uint8' ? 1 : 2 * (type === 'hex16' ? size : 1));

/** The answer's document. `bytes`: as many as `bytesOf` says. */
export function numbersAnswer(request: NumbersRequest, bytes: Uint8Array): object {
  const { type, length, size } = request;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const data = Array.from({ length }, (_, i) => {
    if (type === 'uint8') return view.getUint8(i);
    if (type === 'uint16') return view.getUint16(2 * i);
    return Buffer.from(bytes.buffer, bytes.byteOffset + 2 * size * i, 2 * size).toString('hex');
  });
  return { success: true, type, length, ...(type === 'hex16' ? { size } : {}), data };
}

function integer(text: string, most: number): number | undefined {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return value >= 1 && value <= most ? value : undefined;
}

function invalid(what: string): Failure {
  return new Failure('request-invalid', what, {
    remedy: 'Ask for /api/v1/random?length=1..1024&type=uint8|uint16|hex16[&size=1..10].',
  });
}
