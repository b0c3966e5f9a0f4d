// Deflate in pieces (RFC 1951), each of which ends at a byte, so that they can be put one behind the other; and what makes gzip of them
// (RFC 1952). A piece is deflated beside the thread that asks for it.
import { constants, crc32, createDeflateRaw, deflateRawSync } from 'node:zlib';

const options = {
  /**
   * Of 100 MB of a journal 8.8 MB in 0.25 s; at 5, 7.9 MB in 0.60 s. What makes a bundle shares few cores with the node, and with
   * journalctl, which it waits for: an eighth more is the lesser evil, also where the disk is nearly full.
   */
  level: 3,
  chunkSize: 1 << 16,
  flush: constants.Z_SYNC_FLUSH,
  finishFlush: constants.Z_SYNC_FLUSH,
} as const;

/** Of a text that comes in pieces, each deflated by what came before it. Has memory of its own, outside of the heap. */
export class PieceDeflater implements Disposable {
  readonly #stream = createDeflateRaw(options);
  #parts: Buffer[] = [];
  #last: Promise<Buffer> = Promise.resolve(Buffer.alloc(0));

  constructor() {
    // It stops where nobody reads.
    this.#stream.on('readable', () => this.#read());
    this.#stream.on('error', () => {}); // Whoever waits for the piece is told.
  }

  /** `piece` must stay as it is until then. One after the other. */
  deflate(piece: Uint8Array): Promise<Buffer> {
    this.#last = this.#last.then(() => this.#deflate(piece));
    return this.#last;
  }

  [Symbol.dispose](): void {
    this.#stream.destroy();
  }

  async #deflate(piece: Uint8Array): Promise<Buffer> {
    if (piece.length === 0) return Buffer.alloc(0);
    await new Promise<void>((resolve, reject) => {
      this.#stream.write(piece, (error) => (error == null ? resolve() : reject(error)));
    });
    this.#read();
    const deflated = Buffer.concat(this.#parts);
    this.#parts = [];
    return deflated;
  }

  #read(): void {
    for (
      let part = this.#stream.read() as Buffer | null;
      part !== null;
      part = this.#stream.read() as Buffer | null
    )
      this.#parts.push(part);
  }
}

/** A piece by itself, at once. */
export const deflatePiece = (piece: Uint8Array): Buffer => deflateRawSync(piece, options);

/** With neither name nor time. */
export const gzipHeader = Buffer.from('1f8b0800000000000003', 'hex');

/** An empty last block. */
const lastBlock = Buffer.from('0300', 'hex');
export const gzipEndBytes = lastBlock.length + 8;

/** What the pieces of a gzip hold, taken together. */
export class Checksum {
  #crc = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** What goes behind the last piece. */
  get gzipEnd(): Buffer {
    const end = Buffer.alloc(8);
    end.writeUInt32LE(this.#crc, 0);
    end.writeUInt32LE(this.#length % 2 ** 32, 4);
    return Buffer.concat([lastBlock, end]);
  }

  with(bytes: Uint8Array): Checksum {
    const sum = new Checksum();
    sum.#crc = crc32(bytes, this.#crc);
    sum.#length = this.#length + bytes.length;
    return sum;
  }

  /** What a gzip of `length` bytes with such an end has, follows. */
  withGzip(end: Buffer, length: number): Checksum {
    const sum = new Checksum();
    sum.#crc = combined(this.#crc, end.readUInt32LE(lastBlock.length), length);
    sum.#length = this.#length + length;
    return sum;
  }
}

/**
 * Of what is in a gzip, by its end, which tells it but for multiples of 4 GiB: of those, what is expected. Undefined for what is not the
 * end of one.
 */
export function lengthOf(end: Buffer, expected: number): number | undefined {
  if (!end.subarray(0, lastBlock.length).equals(lastBlock)) return undefined;
  const length = end.readUInt32LE(lastBlock.length + 4);
  return expected % 2 ** 32 === length ? expected : length;
}

/** The CRC-32 (ISO 3309) of two texts, one behind the other, from those of each: that of the first goes on over `length` zero bytes. */
function combined(first: number, second: number, length: number): number {
  // As a matrix over GF(2): column n is what becomes of bit n. For one zero bit, then for 2, 4, 8, … of them.
  let zeros = Array.from({ length: 32 }, (_, bit) => (bit === 0 ? polynomial : 1 << (bit - 1)));
  let crc = first;
  for (let doubled = 0; doubled < 3; doubled += 1) zeros = squared(zeros);
  for (let left = length; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) crc = times(zeros, crc);
    zeros = squared(zeros);
  }
  return (crc ^ second) >>> 0;
}

const polynomial = 0xedb88320;

function times(matrix: readonly number[], vector: number): number {
  let sum = 0;
  for (let bit = 0; bit < 32; bit += 1) if ((vector >>> bit) & 1) sum ^= matrix[bit] ?? 0;
  return sum;
}

const squared = (matrix: readonly number[]): number[] => matrix.map((column) => times(matrix, column));
