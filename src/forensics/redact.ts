// Redaction: what a bundle must not carry is replaced by pseudonyms that are the same for the same original within a case. Works
// on a stream of bytes, of text or of the Journal Export Format, in bounded memory; the case key never enters the bundle.
import { Failure } from '../host/failure.ts';
import { CleanLines } from './clean-lines.ts';
import { caseKeyBytes, caseKeyId, OriginalHmacs } from './pseudonym.ts';
import { JournalRedaction } from './redact-journal.ts';
import { TextRedaction } from './redact-text.ts';
import { RedactedLines } from './redacted-lines.ts';
import type { RedactionRule } from './redaction-policy.ts';
import { type SearchRule, searchRules } from './redaction-search.ts';

/** How a member is made up: lines of text, or the Journal Export Format. */
export type RedactionForm = 'text' | 'journal';

/** One replacement in a text, as recorded beside the redacted member. */
export interface TextRedactionRecord {
  /** Line (from 1) of the redacted member on which the pseudonym stands. */
  readonly line: number;
  readonly rule: string;
  /** HMAC of the original in hex; its first 8 digits are those of the pseudonym. */
  readonly hmac: string;
}

/** The same replacement in a row of journal entries: a host name stands in each. */
export interface JournalRedactionRecord {
  /** The first and the last entry, from 1. */
  readonly entries: readonly [number, number];
  readonly field: string;
  /** Which of the pseudonyms in the fields of this name in each of the entries, from 1. */
  readonly nth: number;
  readonly rule: string;
  readonly hmac: string;
}

export type RedactionRecord = TextRedactionRecord | JournalRedactionRecord;

/** How many replacements a record stands for. */
export const replacements = (record: RedactionRecord): number =>
  'entries' in record ? record.entries[1] - record.entries[0] + 1 : 1;

/**
 * What redacts one member. `write` may hold back up to a window; `end` gives the rest and is ready for another member. What they
 * give is good until the next call.
 */
export interface RedactionStream {
  write(chunk: Uint8Array): Uint8Array;
  end(): Uint8Array;
  /** The records that are complete since the last call. */
  takeRecords(): RedactionRecord[];
}

/** What a stream works with. */
export interface Redaction {
  readonly rules: readonly SearchRule[];
  readonly hmacs: OriginalHmacs;
  /** By these rules. */
  readonly clean: CleanLines;
  readonly redacted: RedactedLines;
}

export class Redactor {
  readonly keyId: string;
  readonly rules: readonly RedactionRule[];
  readonly #redaction: Redaction;

  /**
   * `key` is the case key (32 bytes, a view of a `SecretBuffer` where it has one); `hosts` are names to replace
   * wherever they stand as a word. @throws Failure `case-key-invalid`.
   */
  constructor(options: {
    readonly rules: readonly RedactionRule[];
    readonly hosts?: readonly string[];
    readonly key: Uint8Array;
  }) {
    const { key } = options;
    if (key.length !== caseKeyBytes) {
      throw new Failure('case-key-invalid', `The case key has ${key.length} bytes, expected 32.`, {
        remedy: 'Make one with `head -c 32 /dev/urandom > case.key` and keep it away from the node.',
      });
    }
    this.keyId = caseKeyId(key);
    const rules = searchRules(options.rules, options.hosts ?? []);
    this.rules = rules;
    this.#redaction = {
      rules,
      hmacs: new OriginalHmacs(key),
      clean: new CleanLines(),
      redacted: new RedactedLines(),
    };
  }

  /** Starts on one member. */
  stream(form: RedactionForm = 'text'): RedactionStream {
    return form === 'text' ? new TextRedaction(this.#redaction) : new JournalRedaction(this.#redaction);
  }

  /** One text that is no member, with the pseudonyms that the members have. Of what is replaced in it there is no record. */
  text(text: string): string {
    const stream = this.stream();
    const begin = Buffer.from(stream.write(Buffer.from(text)));
    return Buffer.concat([begin, stream.end()]).toString();
  }

  /** HMAC, in hex, of what is replaced under a kind. */
  hmac(kind: string, original: string): string {
    return this.#redaction.hmacs.of(kind, original);
  }
}
