// Finds what the rules of redaction describe, in Latin-1 text: the match that begins first wins, the earlier rule where two begin
// together. In the Journal Export Format no match leaves its field.
import { isIPv6 } from 'node:net';
import { pseudonymPattern } from './pseudonym.ts';
import type { RedactionRule } from './redaction-policy.ts';

export interface SearchRule extends RedactionRule {
  /** Of `pattern`, with the flag g; its state is that of the search under way. */
  readonly compiled: RegExp;
}

/** Where a field stands in the text: its name from `start`, its value from behind the `=` up to `end`. */
export interface FieldPlace {
  readonly start: number;
  readonly value: number;
  readonly end: number;
}

export interface Match {
  readonly rule: RedactionRule;
  /** Where the match begins, and within it what is to be replaced. */
  readonly begin: number;
  readonly start: number;
  readonly original: string;
  /** Where the text has fields. */
  readonly field: FieldPlace | undefined;
}

/** The field in which a position of the text lies; null for one that must stay as it is. */
export type FieldAt = (text: string, position: number) => FieldPlace | null;

/** All rules of a redactor: those given, after the one that keeps pseudonyms from being forged, and before the host names. */
export const searchRules = (rules: readonly RedactionRule[], hosts: readonly string[]): SearchRule[] =>
  [lookAlike, ...rules, ...hostRules(hosts)].map((rule) => ({
    ...rule,
    compiled: new RegExp(rule.pattern, 'g'),
  }));

/** What is to be replaced in the text from `from` on, in order, without overlaps. Runs to its end or is given up; never two at once. */
export function* matchesIn(
  rules: readonly SearchRule[],
  text: string,
  from: number,
  fieldAt?: FieldAt,
): Generator<Match, void, void> {
  const searches = rules.map((rule) => new Search(rule, text, from, fieldAt));
  for (let at = from; ; ) {
    let first: Match | undefined;
    for (const search of searches) {
      const match = search.next(at);
      if (match !== undefined && (first === undefined || match.begin < first.begin)) first = match;
    }
    if (first === undefined) return;
    yield first;
    at = first.start + first.original.length;
  }
}

/** Whether a rule, from some place after `from` on, finds exactly `length` characters at `at`. */
export function finds(rule: SearchRule, text: string, from: number, at: number, length: number): boolean {
  const { compiled } = rule;
  for (let next = from; next <= at; ) {
    compiled.lastIndex = next;
    const found = compiled.exec(text);
    if (found === null || found.index > at) return false;
    const secret = found.groups?.secret ?? found[0];
    const start = found.index + found[0].lastIndexOf(secret);
    const end = start + (rule.check === 'ipv6' ? length : secret.length);
    // Clipped to the value, where it is a field.
    if (start <= at && at + length <= end && (start === at || end === at + length)) return true;
    next = found.index + 1;
  }
  return false;
}

/** The matches of one rule in one text. Each rule by itself is twice as fast as all in one alternation. */
class Search {
  readonly #rule: SearchRule;
  readonly #text: string;
  readonly #fieldAt: FieldAt | undefined;
  /** The next place that an IPv6 address has and most text has not. */
  #colons = -1;
  #next: Match | undefined;

  constructor(rule: SearchRule, text: string, from: number, fieldAt: FieldAt | undefined) {
    this.#rule = rule;
    this.#text = text;
    this.#fieldAt = fieldAt;
    this.#next = this.#find(from);
  }

  /** The first match that begins at `from` or later; `from` must not go back. */
  next(from: number): Match | undefined {
    if (this.#next !== undefined && this.#next.begin < from) this.#next = this.#find(from);
    return this.#next;
  }

  #find(from: number): Match | undefined {
    const { compiled } = this.#rule;
    for (let at = from; ; ) {
      at = this.#skip(at);
      if (at === -1) return undefined;
      compiled.lastIndex = at;
      const found = compiled.exec(this.#text);
      if (found === null) return undefined;
      const match = this.#fieldAt === undefined ? this.#accepted(found, undefined) : this.#inField(found);
      if (typeof match === 'object') return match;
      at = match ?? found.index + 1;
    }
  }

  /** Where to look on from `at`: up to there nothing can stand the check. -1: nor anywhere behind it. */
  #skip(at: number): number {
    if (this.#rule.check !== 'ipv6') return at;
    if (this.#colons < at) {
      inAddress.lastIndex = at;
      this.#colons = inAddress.exec(this.#text)?.index ?? Number.POSITIVE_INFINITY;
    }
    if (this.#colons === Number.POSITIVE_INFINITY) return -1;
    // A match is of one field, and may begin with the line break before it.
    const field = this.#fieldAt?.(this.#text, this.#colons);
    return field == null ? at : Math.max(at, field.start - 1);
  }

  /** The match, or where to look on. */
  #inField(found: RegExpExecArray): Match | number | undefined {
    const { compiled } = this.#rule;
    // A match that begins with the line break before a field is that field's.
    const begin = found.index;
    const position = this.#text.charCodeAt(begin) === newline ? begin + 1 : begin;
    if (position >= this.#text.length) return this.#text.length;
    const field = this.#fieldAt?.(this.#text, position);
    if (field == null) return lineEnd(this.#text, position);
    if (begin + found[0].length <= field.end + 1) return this.#accepted(found, field);
    // It goes beyond its field: what the rule finds in the field alone, between its line breaks, counts.
    const offset = field.start - 1;
    compiled.lastIndex = begin - offset;
    const alone = compiled.exec(this.#text.slice(offset, field.end + 1));
    if (alone === null) return field.end;
    alone.index += offset;
    return this.#accepted(alone, field) ?? alone.index + 1;
  }

  #accepted(found: RegExpExecArray, field: FieldPlace | undefined): Match | undefined {
    const begin = found.index;
    const secret = found.groups?.secret ?? found[0];
    const checked = this.#rule.check === 'ipv6' ? addressIn(secret) : secret;
    if (checked === undefined) return undefined;
    const start = begin + found[0].lastIndexOf(secret);
    if (field === undefined) return { rule: this.#rule, begin, start, original: checked, field };
    const from = Math.max(start, field.value);
    const to = Math.min(start + checked.length, field.end);
    if (from >= to) return undefined;
    return { rule: this.#rule, begin, start: from, original: this.#text.slice(from, to), field };
  }
}

const newline = 0x0a;

/** In every IPv6 address, as `addressIn` takes them: two colons, with at most four digits between them. */
const inAddress = /:[0-9A-Fa-f]{0,4}:/g;

function lineEnd(text: string, position: number): number {
  const end = text.indexOf('\n', position);
  return end === -1 ? text.length : end;
}

/** Text that already looks like a pseudonym is replaced too, so that none in a bundle is forged. */
const lookAlike: RedactionRule = {
  name: 'pseudonym-look-alike',
  kind: 'mark',
  pattern: pseudonymPattern,
  sample: '<<‹ip:{hex:4}›>>',
};

const hostRules = (hosts: readonly string[]): RedactionRule[] =>
  hosts
    .filter((host) => host !== '')
    .toSorted((a, b) => b.length - a.length)
    .map((host) => ({
      name: 'host-name',
      kind: 'host',
      pattern: `(?<![A-Za-z0-9-])(?i:${literally(host)})(?![A-Za-z0-9-])`,
      sample: `login on <<${host}>> ok`,
    }));

/** The pattern of a name, in the Latin-1 reading of its UTF-8 bytes. */
const literally = (name: string): string =>
  Array.from(Buffer.from(name), (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');

/** The IPv6 address with which the text begins, but for punctuation that belongs to the sentence; not the bare `::`. */
function addressIn(text: string): string | undefined {
  if (!text.includes('::') && text.split(':').length < 7) return undefined;
  const candidates = [text, text.slice(0, -1), text.replace(/[:.]+$/, ''), text.replace(/(?:\.\d*)+$/, '')];
  return candidates.find((candidate) => /[0-9A-Fa-f]/.test(candidate) && isIPv6(candidate));
}
