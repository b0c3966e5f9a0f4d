// Lines of a journal of which it is known what they become: a host name stands in each entry. Only of names and addresses; a line in
// which a rule found a key or a credential is never kept.

/** How many lines are kept, a power of two. */
const places = 1 << 8;
/** Bytes of a line that is kept: what is longer seldom comes again. */
const longest = 192;
/** The kinds of what may stand in a line that is kept. */
const harmless: ReadonlySet<string> = new Set(['host', 'ip', 'mac']);

export interface Replacement {
  readonly field: string;
  readonly rule: string;
  readonly hmac: string;
}

export interface RedactedLine {
  readonly original: Uint8Array;
  /** With its line break. */
  readonly redacted: Uint8Array;
  readonly replaced: readonly Replacement[];
}

export class RedactedLines {
  readonly #lines: (RedactedLine | undefined)[] = Array.from({ length: places }, () => undefined);
  /** What was last offered to a place. Only what is offered twice is kept, as of clean lines. */
  readonly #offered = new Int32Array(places);

  /** What is known of the line from `start` to `end`; `hash` is that of `CleanLines`. */
  find(bytes: Uint8Array, start: number, end: number, hash: number): RedactedLine | undefined {
    const line = this.#lines[hash & (places - 1)];
    if (line === undefined || line.original.length !== end - start) return undefined;
    for (let at = start; at < end; at += 1) if (bytes[at] !== line.original[at - start]) return undefined;
    return line;
  }

  /** Whether a line is to be told with `keep`: it came before, and may be kept. `kinds` are those of what was found in it. */
  wants(length: number, hash: number, kinds: readonly string[]): boolean {
    if (length > longest || !kinds.every((kind) => harmless.has(kind))) return false;
    const place = hash & (places - 1);
    const isKnown = this.#offered[place] === hash;
    this.#offered[place] = hash;
    return isKnown;
  }

  keep(hash: number, line: RedactedLine): void {
    this.#lines[hash & (places - 1)] = line;
  }
}
