// The audit of redaction, by whoever holds the original and the key of the case: between the pseudonyms nothing differs from the
// original, and each pseudonym stands for what the original has in its place, by a rule that finds it there. Nothing is taken on
// trust from the redactor: text is compared, and each HMAC is computed anew. Pure.
import type { JournalField } from '../journal/export.ts';
import { latin1, OriginalHmacs } from './pseudonym.ts';
import type { RedactionRecord } from './redact.ts';
import { oversized } from './redact-journal.ts';
import type { RedactionRule } from './redaction-policy.ts';
import { type FoundPseudonym, JournalRecords, PlacesInEntry, pseudonymsIn } from './redaction-records.ts';
import { finds, type SearchRule, searchRules } from './redaction-search.ts';

export interface MemberAudit {
  /** Pseudonyms that were found to stand for what is in the original. */
  readonly redactions: number;
  /** Of a journal; `skipped` are those of the original, before and between them, that the bundle does not have. */
  readonly entries?: { readonly compared: number; readonly skipped: number };
  /** What does not hold, as sentences, with places; never an original. */
  readonly problems: readonly string[];
}

/** Longer originals are values as a whole. */
const longestMatch = 16_384;
/** So much before an original a rule may begin. */
const ruleReach = 4096;
const mostProblems = 20;

type RecordOf = (found: FoundPseudonym, index: number) => RedactionRecord | undefined;

export class RedactionAudit {
  readonly #hmacs: OriginalHmacs;
  readonly #rules: ReadonlyMap<string, SearchRule>;

  /** `rules` are those of the policy by which the bundle was made. */
  constructor(caseKey: Uint8Array, rules: readonly RedactionRule[]) {
    this.#hmacs = new OriginalHmacs(caseKey);
    this.#rules = new Map(searchRules(rules, []).map((rule) => [rule.name, rule]));
  }

  text(original: Uint8Array, redacted: Uint8Array, records: readonly RedactionRecord[]): MemberAudit {
    const whole = latin1(original);
    const { count, problem } = this.#compare(whole, latin1(redacted), 0, (_, at) => records[at]);
    const surplus =
      problem === undefined && count !== records.length
        ? [`${records.length} redactions are recorded, ${count} are there.`]
        : [];
    return { redactions: count, problems: problem === undefined ? surplus : [problem] };
  }

  /** The original may have entries that the bundle has not, before, between and behind (these are not looked at); order and cursors tell which. */
  async journal(
    original: AsyncIterable<JournalField[]>,
    redacted: AsyncIterable<JournalField[]>,
    recorded: readonly RedactionRecord[],
  ): Promise<MemberAudit> {
    const records = new JournalRecords(recorded);
    const originals = original[Symbol.asyncIterator]();
    const problems: string[] = [];
    let compared = 0;
    let skipped = 0;
    let redactions = 0;
    try {
      for await (const entry of redacted) {
        const cursor = cursorOf(entry);
        let given = await originals.next();
        for (; !given.done && cursorOf(given.value) !== cursor; given = await originals.next()) skipped += 1;
        compared += 1;
        if (given.done) {
          problems.push(`Entry ${compared} (${cursor}) is not in the original, or not in this order.`);
          break;
        }
        const audit = this.#entry(given.value, entry, compared, records);
        redactions += audit.redactions;
        problems.push(...audit.problems);
        if (problems.length >= mostProblems) break;
      }
    } finally {
      await originals.return?.();
    }
    if (problems.length === 0 && redactions !== records.total)
      problems.push(`${records.total} redactions are recorded, ${redactions} are there.`);
    return { redactions, entries: { compared, skipped }, problems };
  }

  #entry(
    original: readonly JournalField[],
    redacted: readonly JournalField[],
    number: number,
    records: JournalRecords,
  ): { redactions: number; problems: string[] } {
    const places = new PlacesInEntry();
    const problems: string[] = [];
    let redactions = 0;
    if (original.length !== redacted.length)
      problems.push(`Entry ${number} has ${redacted.length} fields, its original ${original.length}.`);
    for (const [at, { name, value }] of redacted.entries()) {
      const given = original[at];
      if (given?.name !== name) {
        problems.push(
          `Entry ${number}: field ${at + 1} is ${name}, in the original ${given?.name ?? 'none'}.`,
        );
        break;
      }
      const before = `\n${name}=`;
      const { count, problem } = this.#compare(
        `${before}${latin1(given.value)}\n`,
        `${before}${latin1(value)}\n`,
        before.length,
        () => records.at(number, name, places.next(name)),
      );
      redactions += count;
      if (problem !== undefined) problems.push(`Entry ${number}, ${name}: ${problem}`);
    }
    return { redactions, problems };
  }

  /** Goes through both from one pseudonym to the next. */
  #compare(
    original: string,
    redacted: string,
    from: number,
    recordOf: RecordOf,
  ): { count: number; problem?: string } {
    if (original === redacted && !redacted.includes('\xe2\x80\xb9', from)) return { count: 0 };
    const found = pseudonymsIn(redacted);
    let at = 0;
    let read = 0;
    for (const [index, pseudonym] of found.entries()) {
      const plain = redacted.slice(read, pseudonym.at);
      if (!original.startsWith(plain, at)) return { count: index, problem: differs(original, plain, at) };
      at += plain.length;
      read = pseudonym.at + pseudonym.length;
      const follows = redacted.slice(read, found[index + 1]?.at);
      const record = recordOf(pseudonym, index);
      if (record === undefined || !record.hmac.startsWith(pseudonym.digits))
        return { count: index, problem: `the pseudonym at byte ${pseudonym.at} is not recorded.` };
      const last = index === found.length - 1;
      const length = this.#lengthOf(pseudonym.kind, record.hmac, original, at, follows, last);
      if (length === undefined) {
        return {
          count: index,
          problem: `the pseudonym at byte ${pseudonym.at} does not stand for what the original has there.`,
        };
      }
      const wrong = this.#ruleProblem(record.rule, pseudonym.kind, original, at, length);
      if (wrong !== undefined) return { count: index, problem: `at byte ${pseudonym.at}, ${wrong}` };
      at += length;
    }
    const rest = redacted.slice(read);
    if (original.slice(at) === rest) return { count: found.length };
    return { count: found.length, problem: differs(original, rest, at) };
  }

  /** How much of the original a pseudonym stands for: what its HMAC is of, and what goes on as the redacted text does. */
  #lengthOf(
    kind: string,
    hmac: string,
    original: string,
    at: number,
    follows: string,
    last: boolean,
  ): number | undefined {
    const rest = original.length - at - follows.length;
    const most = last ? rest : Math.min(rest, longestMatch);
    for (let length = last ? Math.max(1, rest) : 1; length <= most; length += 1) {
      if (!original.startsWith(follows, at + length)) continue;
      if (this.#hmacs.of(kind, original.slice(at, at + length)) === hmac) return length;
    }
    return undefined;
  }

  #ruleProblem(name: string, kind: string, original: string, at: number, length: number): string | undefined {
    if (name === oversized.rule && kind === oversized.kind) return undefined;
    // The bundle does not tell the names that it replaced; which it was, the HMAC shows.
    if (name === 'host-name' && kind === 'host') return undefined;
    const rule = this.#rules.get(name);
    if (rule === undefined) return `the rule ${name} is not in the policy.`;
    if (rule.kind !== kind) return `the rule ${name} is of kind ${rule.kind}, the pseudonym of kind ${kind}.`;
    return finds(rule, original, Math.max(0, at - ruleReach), at, length)
      ? undefined
      : `the rule ${name} does not find what the original has there.`;
  }
}

const cursorOf = (entry: readonly JournalField[]): string => {
  const found = entry.find(({ name }) => name === '__CURSOR');
  return found === undefined ? '' : latin1(found.value);
};

/** Where two texts part, without telling either. */
function differs(original: string, plain: string, at: number): string {
  let same = 0;
  while (same < plain.length && plain[same] === original[at + same]) same += 1;
  return `the text differs from the original at its byte ${at + same}, where nothing was redacted.`;
}
