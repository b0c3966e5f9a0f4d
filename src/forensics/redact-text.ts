// Redaction of lines of text. A window is looked at at a time; a match that may go on beyond it waits for the rest.
import { latin1, pseudonym } from './pseudonym.ts';
import type { Redaction, RedactionStream, TextRedactionRecord } from './redact.ts';
import { matchesIn } from './redaction-search.ts';

/** No match may be longer, so that a window that ends in the middle of one can wait for its rest. */
const longestMatch = 16_384;
const window = 1 << 18;
/** How much of what is already out a pattern may look back at. */
const lookBehind = 64;

export class TextRedaction implements RedactionStream {
  readonly #redaction: Redaction;
  #behind = '';
  #pending = '';
  #line = 1;
  #records: TextRedactionRecord[] = [];

  constructor(redaction: Redaction) {
    this.#redaction = redaction;
  }

  write(chunk: Uint8Array): Uint8Array {
    this.#pending += latin1(chunk);
    return this.#pending.length < window
      ? new Uint8Array()
      : this.#advance(this.#pending.length - longestMatch);
  }

  end(): Uint8Array {
    const rest = this.#advance(this.#pending.length);
    this.#behind = '';
    this.#line = 1;
    return rest;
  }

  takeRecords(): TextRedactionRecord[] {
    const taken = this.#records;
    this.#records = [];
    return taken;
  }

  /** Replaces every match that begins within the first `safe` characters that are pending. */
  #advance(safe: number): Uint8Array {
    return this.#redaction.hmacs.during(() => this.#advanced(safe));
  }

  #advanced(safe: number): Uint8Array {
    const { rules, hmacs } = this.#redaction;
    const offset = this.#behind.length;
    const whole = this.#behind + this.#pending;
    const out: string[] = [];
    let at = offset;
    for (const { rule, begin, start, original } of matchesIn(rules, whole, offset)) {
      if (begin >= safe + offset) break;
      const before = whole.slice(at, start);
      this.#line += newlines(before);
      const hmac = hmacs.of(rule.kind, original);
      out.push(before, pseudonym(rule.kind, hmac));
      this.#records.push({ line: this.#line, rule: rule.name, hmac });
      at = start + original.length;
    }
    const end = Math.max(at, safe + offset);
    const rest = whole.slice(at, end);
    out.push(rest);
    this.#line += newlines(rest);
    this.#behind = whole.slice(Math.max(0, end - lookBehind), end);
    this.#pending = whole.slice(end);
    return Buffer.from(out.join(''), 'latin1');
  }
}

function newlines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) count += 1;
  return count;
}
