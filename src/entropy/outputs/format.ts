// How random bytes are written: raw, hexadecimal lines, base64 lines (RFC 4648), as a stream of chunks of any size.
export const formats = ['raw', 'hex', 'base64'] as const;
export type Format = (typeof formats)[number];

/** Bytes of a line: 64 digits of hexadecimal, 76 characters of base64 (RFC 2045). */
const lineBytes = { hex: 32, base64: 57 } as const;

/** Turns chunks into text; `end` gives what is left. Wipes what it held. */
export class Formatter {
  readonly #format: 'hex' | 'base64';
  readonly #line: Uint8Array;
  #held = 0;

  constructor(format: 'hex' | 'base64') {
    this.#format = format;
    this.#line = new Uint8Array(lineBytes[format]);
  }

  push(chunk: Uint8Array): Uint8Array {
    const width = this.#line.length;
    const lines: string[] = [];
    for (let at = 0; at < chunk.length; ) {
      const count = Math.min(width - this.#held, chunk.length - at);
      this.#line.set(chunk.subarray(at, at + count), this.#held);
      this.#held += count;
      at += count;
      if (this.#held === width) lines.push(this.#take());
    }
    return Buffer.from(lines.join(''));
  }

  end(): Uint8Array {
    return Buffer.from(this.#held === 0 ? '' : this.#take());
  }

  #take(): string {
    const text = Buffer.from(this.#line.buffer, 0, this.#held).toString(this.#format);
    this.#line.fill(0);
    this.#held = 0;
    return `${text}\n`;
  }
}
