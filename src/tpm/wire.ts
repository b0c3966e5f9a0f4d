// The TPM wire format: big-endian integers and size-prefixed buffers (TCG TPM 2.0 Library, Part 2 and Part 3 section 4).
import { Failure } from '../host/failure.ts';

/** Reads wire bytes front to back. Views, not copies, are returned. Every read beyond the end is `tpm-wire-truncated`. */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get remaining(): number {
    return this.#bytes.byteLength - this.#offset;
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#advance(2));
  }
  u32(): number {
    return this.#view.getUint32(this.#advance(4));
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8));
  }
  bytes(length: number): Uint8Array {
    const start = this.#advance(length);
    return this.#bytes.subarray(start, start + length);
  }
  /** A TPM2B: a 16-bit length, then that many bytes (without the length). */
  sized(): Uint8Array {
    return this.bytes(this.u16());
  }

  /** @throws Failure `tpm-wire-trailing` when bytes are left. */
  end(): void {
    if (this.remaining > 0) {
      throw new Failure(
        'tpm-wire-trailing',
        `The TPM structure has ${this.remaining} bytes more than it should.`,
      );
    }
  }

  #advance(length: number): number {
    if (length < 0 || length > this.remaining) {
      throw new Failure(
        'tpm-wire-truncated',
        `The TPM structure ends early: ${length} bytes wanted at offset ${this.#offset}, ${this.remaining} left.`,
      );
    }
    const start = this.#offset;
    this.#offset += length;
    return start;
  }
}

/** Builds wire bytes; every method returns the writer. Not for secrets: the buffer grows by copying. */
export class Writer {
  #bytes = new Uint8Array(256);
  #length = 0;

  u8(value: number): this {
    this.#grow(1);
    this.#bytes[this.#length - 1] = value;
    return this;
  }
  u16(value: number): this {
    const at = this.#grow(2);
    this.#view().setUint16(at, value);
    return this;
  }
  u32(value: number): this {
    const at = this.#grow(4);
    this.#view().setUint32(at, value);
    return this;
  }
  u64(value: bigint): this {
    const at = this.#grow(8);
    this.#view().setBigUint64(at, value);
    return this;
  }
  bytes(bytes: Uint8Array): this {
    const at = this.#grow(bytes.byteLength);
    this.#bytes.set(bytes, at);
    return this;
  }
  /** A TPM2B: the length in 16 bits, then the bytes. */
  sized(bytes: Uint8Array): this {
    if (bytes.byteLength > 0xffff)
      throw new RangeError(`A TPM2B holds at most 65535 bytes, not ${bytes.byteLength}.`);
    return this.u16(bytes.byteLength).bytes(bytes);
  }

  /** A copy of what was written. */
  done(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #view(): DataView {
    return new DataView(this.#bytes.buffer);
  }

  /** Makes room and returns where it starts. */
  #grow(length: number): number {
    const at = this.#length;
    this.#length += length;
    if (this.#length > this.#bytes.byteLength) {
      const larger = new Uint8Array(Math.max(this.#length, this.#bytes.byteLength * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    return at;
  }
}
