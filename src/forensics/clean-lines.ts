// Lines of a journal that are known to have nothing to replace. Most fields come again and again (_UID, _EXE, …), and what the rules
// find in one depends on its bytes alone, so they need not look at it each time. A line with a match is never kept: it may hold a secret.

/** How many lines are kept, a power of two. */
const places = 1 << 15;
/** Bytes of a line that is kept: what is longer seldom comes again. */
const longest = 192;
const shortest = 4;

const newline = 0x0a;

export class CleanLines {
  readonly #kept = new DataView(new ArrayBuffer(places * longest));
  readonly #lengths = new Uint8Array(places);
  /** What was last offered to a place. Only what is offered twice is kept: else what never comes again would drive out what does. */
  readonly #offered = new Int32Array(places);
  /** After each line that is kept, the place of the one that was met next among these: mostly it is the one that comes next. */
  readonly #next = new Uint16Array(places);
  /** Of the line that was met last among these. */
  #last = 0;
  #end = 0;
  #hash = 0;

  /** Where the line that was looked at last ends: at its line break. */
  get end(): number {
    return this.#end;
  }

  /** Of the line that was looked at last, if it is not kept; for `offer`. */
  get hash(): number {
    return this.#hash;
  }

  /**
   * Whether the line from `start` to the next line break is kept; there is a line break. `length` is that of the bytes: asking a
   * DataView each time would take a fifth as long again.
   */
  has(bytes: DataView, length: number, start: number): boolean {
    const expected = this.#next[this.#last] ?? 0;
    const end = start + (this.#lengths[expected] ?? 0);
    if (end > start && end < length && bytes.getUint8(end) === newline) {
      if (this.#isAt(expected * longest, bytes, start, end)) {
        this.#end = end;
        this.#last = expected;
        return true;
      }
    }
    const last = length - 4;
    let at = start;
    let hash = 0;
    for (; at <= last; at += 4) {
      const four = bytes.getInt32(at, true);
      // Whether one of the four is a line break (Hacker's Delight, section 6-1).
      const broken = four ^ 0x0a0a0a0a;
      if (((broken - 0x01010101) & ~broken & 0x80808080) !== 0) break;
      hash = Math.imul(((hash << 5) | (hash >>> 27)) ^ four, multiplier);
    }
    for (let byte = bytes.getUint8(at); byte !== newline; byte = bytes.getUint8(++at)) {
      hash = Math.imul(((hash << 5) | (hash >>> 27)) ^ byte, multiplier);
    }
    hash ^= hash >>> 15;
    this.#end = at;
    this.#hash = hash;
    const place = hash & (places - 1);
    if (at - start !== this.#lengths[place] || !this.#isAt(place * longest, bytes, start, at)) return false;
    this.#next[this.#last] = place;
    this.#last = place;
    return true;
  }

  /** The line, which `has` has looked at, is clean. */
  offer(bytes: DataView, start: number, end: number, hash: number): void {
    const length = end - start;
    if (length < shortest || length > longest) return;
    const place = hash & (places - 1);
    if (this.#offered[place] !== hash) {
      this.#offered[place] = hash;
      return;
    }
    for (let at = 0; at < length; at += 1)
      this.#kept.setUint8(place * longest + at, bytes.getUint8(start + at));
    this.#lengths[place] = length;
  }

  #isAt(place: number, bytes: DataView, start: number, end: number): boolean {
    const offset = place - start;
    let at = start;
    for (; at <= end - 4; at += 4) {
      if (bytes.getInt32(at, true) !== this.#kept.getInt32(at + offset, true)) return false;
    }
    return at === end || bytes.getInt32(end - 4, true) === this.#kept.getInt32(end - 4 + offset, true);
  }
}

/** Of Knuth's multiplicative hashing. */
const multiplier = 0x9e3779b1;
