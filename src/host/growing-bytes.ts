// Bytes that come and go in one buffer which is used again and again: a new one for every piece of a large member would lie about
// until the garbage collector takes it, and that takes its time.

/** A larger one is given back when it is empty. */
const keptBytes = 1 << 20;
/** So few are copied faster than a view of them is made. */
const short = 32;

export class GrowingBytes {
  #bytes = Buffer.alloc(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** What is in it, good until it is changed. */
  get view(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  copy(source: Uint8Array, from = 0, to = source.length): void {
    this.#reserve(to - from);
    const bytes = this.#bytes;
    const shift = this.#length - from;
    if (to - from > short) bytes.set(source.subarray(from, to), this.#length);
    else for (let at = from; at < to; at += 1) bytes[at + shift] = source[at] ?? 0;
    this.#length += to - from;
  }

  /** Latin-1 text, one byte a character. */
  write(text: string): void {
    this.#reserve(text.length);
    this.#length += this.#bytes.write(text, this.#length, 'latin1');
  }

  /** Takes away the first so many. */
  drop(length: number): void {
    this.#bytes.copyWithin(0, length, this.#length);
    this.#length -= length;
    if (this.#length === 0 && this.#bytes.length > keptBytes) this.#bytes = Buffer.alloc(0);
  }

  #reserve(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}
