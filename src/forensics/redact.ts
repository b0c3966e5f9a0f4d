// Redaction: what a bundle must not carry is replaced by pseudonyms that are the same for the same original within a case
// (HMAC-SHA-256, FIPS 198-1, under the key of the case, which never enters the bundle). Works on a stream of bytes.
import { createHmac } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { Failure } from '../host/failure.ts';
import type { RedactionRule } from './redaction-policy.ts';

/** One replacement, as recorded beside the redacted member. */
export interface RedactionRecord {
  /** Line (from 1) of the redacted member on which the pseudonym stands. */
  readonly line: number;
  readonly rule: string;
  /** HMAC of the original in hex; its first 8 digits are those of the pseudonym. */
  readonly hmac: string;
}

/** What redacts one member. `write` may hold back up to a window; `end` gives the rest. */
export interface RedactionStream {
  write(chunk: Uint8Array): Uint8Array;
  end(): Uint8Array;
  /** The records since the last call. */
  takeRecords(): RedactionRecord[];
}

export const caseKeyBytes = 32;
/** No match may be longer, so that a window that ends in the middle of one can wait for its rest. */
const longestMatch = 16_384;
const window = 1 << 18;
const mostKnown = 10_000;
/** How much of what is already out a pattern may look back at. */
const lookBehind = 64;

/** Names a case key without telling it; stands in the manifest. */
export const caseKeyId = (key: Uint8Array): string =>
  createHmac('sha256', key).update('esoteric-appliance/case-key/1').digest('hex');

export class Redactor {
  readonly keyId: string;
  readonly #key: Uint8Array;
  readonly #rules: readonly RedactionRule[];
  readonly #known = new Map<string, string>();

  /**
   * `key` is the case key (32 bytes, a view of a `SecretBuffer` where it has one); `hosts` are names to replace
   * wherever they stand as a word. @throws Failure `case-key-invalid`.
   */
  constructor(options: {
    readonly rules: readonly RedactionRule[];
    readonly hosts?: readonly string[];
    readonly key: Uint8Array;
  }) {
    if (options.key.length !== caseKeyBytes) {
      throw new Failure('case-key-invalid', `The case key has ${options.key.length} bytes, expected 32.`, {
        remedy: 'Make one with `head -c 32 /dev/urandom > case.key` and keep it away from the node.',
      });
    }
    this.#key = options.key;
    this.keyId = caseKeyId(options.key);
    this.#rules = [lookAlike, ...options.rules, ...hostRules(options.hosts ?? [])];
  }

  /** Starts on one member. */
  stream(): RedactionStream {
    let behind = '';
    let pending = '';
    let line = 1;
    let records: RedactionRecord[] = [];
    const advance = (final: boolean): Uint8Array => {
      const safe = final ? pending.length : Math.max(0, pending.length - longestMatch);
      const pass = this.#replace(behind, pending, safe, line);
      behind = (behind + pending.slice(0, pass.consumed)).slice(-lookBehind);
      pending = pending.slice(pass.consumed);
      line = pass.line;
      records = records.concat(pass.records);
      return Buffer.from(pass.text, 'latin1');
    };
    return {
      write: (chunk) => {
        pending += latin1(chunk);
        return pending.length < window ? new Uint8Array() : advance(false);
      },
      end: () => advance(true),
      takeRecords: () => {
        const taken = records;
        records = [];
        return taken;
      },
    };
  }

  /** Replaces every match in `text` that begins before `safe`; `behind` is only looked at. */
  #replace(behind: string, text: string, safe: number, firstLine: number) {
    const whole = behind + text;
    const offset = behind.length;
    const searches = this.#rules.map((rule) => new Search(rule, whole, offset));
    const out: string[] = [];
    const records: RedactionRecord[] = [];
    let at = offset;
    let line = firstLine;
    for (;;) {
      const found = earliest(searches, at);
      if (found === undefined || found.begin >= safe + offset) break;
      const { rule, start, original } = found;
      const before = whole.slice(at, start);
      line += newlines(before);
      const hmac = this.#hmac(rule.kind, original);
      out.push(before, pseudonym(rule.kind, hmac));
      records.push({ line, rule: rule.name, hmac });
      at = start + original.length;
    }
    const end = Math.max(at, safe + offset);
    const rest = whole.slice(at, end);
    out.push(rest);
    return { text: out.join(''), consumed: end - offset, line: line + newlines(rest), records };
  }

  /** Addresses and names come again and again, so they are remembered; keys and credentials never are. */
  #hmac(kind: string, original: string): string {
    if (!foldsCase.has(kind)) return this.#compute(kind, original);
    const name = `${kind}\0${original.toLowerCase()}`;
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    if (this.#known.size >= mostKnown) this.#known.clear();
    const hmac = this.#compute(kind, original.toLowerCase());
    this.#known.set(name, hmac);
    return hmac;
  }

  #compute(kind: string, original: string): string {
    return createHmac('sha256', this.#key).update(`${kind}\0${original}`, 'latin1').digest('hex');
  }
}

interface Match {
  readonly rule: RedactionRule;
  /** Where the match begins, and within it what is to be replaced. */
  readonly begin: number;
  readonly start: number;
  readonly original: string;
}

/** The matches of one rule in one text. Each rule by itself is twice as fast as all in one alternation. */
class Search {
  readonly #rule: RedactionRule;
  readonly #pattern: RegExp;
  readonly #text: string;
  #next: Match | undefined;

  constructor(rule: RedactionRule, text: string, from: number) {
    this.#rule = rule;
    this.#pattern = new RegExp(rule.pattern, 'g');
    this.#text = text;
    this.#next = this.#find(from);
  }

  /** The first match that begins at `from` or later; `from` must not go back. */
  next(from: number): Match | undefined {
    if (this.#next !== undefined && this.#next.begin < from) this.#next = this.#find(from);
    return this.#next;
  }

  #find(from: number): Match | undefined {
    this.#pattern.lastIndex = from;
    for (;;) {
      const match = this.#pattern.exec(this.#text);
      if (match === null) return undefined;
      const begin = match.index;
      const secret = match.groups?.secret ?? match[0];
      const original = this.#rule.check === 'ipv6' ? addressIn(secret) : secret;
      if (original !== undefined) {
        return { rule: this.#rule, begin, start: begin + match[0].lastIndexOf(secret), original };
      }
      this.#pattern.lastIndex = begin + 1;
    }
  }
}

function earliest(searches: readonly Search[], from: number): Match | undefined {
  let first: Match | undefined;
  for (const search of searches) {
    const match = search.next(from);
    if (match !== undefined && (first === undefined || match.begin < first.begin)) first = match;
  }
  return first;
}

/** Kinds whose originals are the same in capitals. */
const foldsCase: ReadonlySet<string> = new Set(['host', 'ip', 'mac']);

/** Text that already looks like a pseudonym is replaced too, so that none in a bundle is forged. */
const lookAlike: RedactionRule = {
  name: 'pseudonym-look-alike',
  kind: 'mark',
  pattern: '\\xe2\\x80\\xb9[a-z]{1,12}:[0-9a-f]{8}\\xe2\\x80\\xba',
};

/** In the UTF-8 bytes of `‹kind:1a2b3c4d›`, as Latin-1 text. */
const pseudonym = (kind: string, hmac: string): string =>
  `\xe2\x80\xb9${kind}:${hmac.slice(0, 8)}\xe2\x80\xba`;

const hostRules = (hosts: readonly string[]): RedactionRule[] =>
  hosts
    .filter((host) => host !== '')
    .toSorted((a, b) => b.length - a.length)
    .map((host) => ({
      name: 'host-name',
      kind: 'host',
      pattern: `(?<![A-Za-z0-9-])(?i:${literally(host)})(?![A-Za-z0-9-])`,
    }));

/** The pattern of a name, in the Latin-1 reading of its UTF-8 bytes. */
const literally = (name: string): string =>
  Array.from(Buffer.from(name), (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');

/** One character a byte, so that whatever is not replaced passes unchanged. */
const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');

/** The IPv6 address with which the text begins, but for punctuation that belongs to the sentence; not the bare `::`. */
function addressIn(text: string): string | undefined {
  if (!text.includes('::') && text.split(':').length < 7) return undefined;
  const candidates = [text, text.slice(0, -1), text.replace(/[:.]+$/, ''), text.replace(/(?:\.\d*)+$/, '')];
  return candidates.find((candidate) => /[0-9A-Fa-f]/.test(candidate) && isIPv6(candidate));
}

function newlines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) count += 1;
  return count;
}

/** Every pseudonym in a redacted member, in order: what its records must agree with. */
export function pseudonymsIn(member: Uint8Array): { line: number; kind: string; digits: string }[] {
  const text = latin1(member);
  let line = 1;
  let at = 0;
  return [...text.matchAll(/\xe2\x80\xb9([a-z]{1,12}):([0-9a-f]{8})\xe2\x80\xba/g)].map((match) => {
    line += newlines(text.slice(at, match.index));
    at = match.index;
    return { line, kind: match[1] ?? '', digits: match[2] ?? '' };
  });
}
