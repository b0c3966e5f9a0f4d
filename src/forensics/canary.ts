// Canaries: secrets that nobody uses, planted before and behind what each redacted collector gives. They go the way of all that it
// gives, through the same redactor into the same member, and are taken out at its end if, and only if, each has become its pseudonym.
// Else a rule, or the redactor, does not do what it is there for, and nothing may be packed.
import { randomBytes, randomInt } from 'node:crypto';
import { Failure } from '../host/failure.ts';
import { type JournalField, parseExport } from '../journal/export.ts';
import { latin1, pseudonym } from './pseudonym.ts';
import { type RedactionForm, type RedactionRecord, type Redactor, replacements } from './redact.ts';

/** What is planted for one rule. */
interface Canary {
  /** Told in the refusal; the secret never is. */
  readonly rule: string;
  readonly secret: string;
  /** Whether it is random: a host name is not, and may well be a word that stands elsewhere too. */
  readonly drawn: boolean;
  /** The secret and what stands around it, as Latin-1 text. */
  readonly text: string;
}

/** Planted whatever the policy says: what a node must never give away. */
const always = [
  { name: 'link key', sample: 'PrivateKey = <<{base64:32}>>' },
  { name: 'preshared key', sample: 'PresharedKey = <<{base64:32}>>' },
] as const;

/** The canaries of one member. */
export class Canaries {
  readonly #redactor: Redactor;
  readonly #canaries: readonly Canary[];
  readonly #form: RedactionForm;
  #out: Uint8Array[] = [];
  #replaced = 0;

  constructor(redactor: Redactor, form: RedactionForm) {
    this.#redactor = redactor;
    this.#form = form;
    this.#canaries = [...redactor.rules, ...always].map(({ name, sample }) => draw(name, sample));
  }

  get count(): number {
    return this.#canaries.length;
  }

  /** What goes into the redactor: lines of text, or one entry of a journal. */
  get planted(): Uint8Array {
    const texts = this.#canaries.map(({ text }) => text);
    return Buffer.from(this.#form === 'text' ? texts.join('\n') : entryOf(texts), 'latin1');
  }

  /** Takes what would become of it in the member. */
  take(bytes: Uint8Array, records: readonly RedactionRecord[]): void {
    this.#out.push(Uint8Array.from(bytes));
    this.#replaced += records.reduce((sum, record) => sum + replacements(record), 0);
  }

  /** Looks at what was taken since the last time. @returns the rules whose canary did not come out as its pseudonym. */
  survivors(): string[] {
    const came = latin1(Buffer.concat(this.#out));
    const replaced = this.#replaced;
    this.#out = [];
    this.#replaced = 0;
    const places = this.#form === 'text' ? [came] : valuesOf(came);
    const failed = this.#canaries.filter(
      (canary) =>
        places.some((place) => !this.#cameOut(canary, place)) ||
        formsOf(canary).some((form) => came.includes(form)),
    );
    if (failed.length > 0) return [...new Set(failed.map(({ rule }) => rule))];
    return replaced >= this.#canaries.length * places.length ? [] : ['the records of redaction'];
  }

  /** As a pseudonym. A rule of the operator's may be quicker than the one that the canary is for, and have another kind. */
  #cameOut({ rule, secret }: Canary, place: string): boolean {
    const own = this.#redactor.rules.find(({ name }) => name === rule)?.kind;
    const kinds = new Set([
      ...(own === undefined ? [] : [own]),
      ...this.#redactor.rules.map(({ kind }) => kind),
    ]);
    return kinds.values().some((kind) => place.includes(pseudonym(kind, this.#redactor.hmac(kind, secret))));
  }
}

/** The rules of a redactor that let their own canary through, in a text or in a journal. */
export const survivorsIn = (redactor: Redactor): string[] =>
  (['text', 'journal'] as const).flatMap((form) => {
    const canaries = new Canaries(redactor, form);
    const stream = redactor.stream(form);
    canaries.take(stream.write(canaries.planted), stream.takeRecords());
    canaries.take(stream.end(), stream.takeRecords());
    return canaries.survivors();
  });

/** @throws Failure `canary-survived` naming members and rules. */
export function refuseSurvivors(found: readonly string[], kept: string): void {
  if (found.length === 0) return;
  throw new Failure(
    'canary-survived',
    `Planted secrets did not come out as pseudonyms, so no bundle is made: ${found.join('; ')}.`,
    {
      kept,
      remedy:
        'Correct these rules in policies/redaction.toml, or in the file of forensics.redaction_rules, then collect again.',
    },
  );
}

function draw(rule: string, sample: string): Canary {
  const drawn = Buffer.from(sample.replace(/\{([a-z0-9]+):(\d{1,3})\}/g, drawPart)).toString('latin1');
  const [, before = '', secret = '', after = ''] = /^(.*?)<<(.*)>>(.*)$/s.exec(drawn) ?? [];
  return { rule, secret, drawn: sample.includes('{'), text: before + secret + after };
}

function drawPart(_: string, alphabet: string, length: string): string {
  const count = Number(length);
  if (alphabet === 'hex') return randomBytes(count).toString('hex');
  if (alphabet === 'base64') return randomBytes(count).toString('base64');
  const letters = alphabets[alphabet] ?? '';
  return Array.from({ length: count }, () => letters[randomInt(letters.length)] ?? '').join('');
}

const alphabets: Readonly<Record<string, string>> = {
  upper: 'ABCDEFGHIJKLMNOPQRSTUVWXYZ',
  digits: '0123456789',
};

/** A journal entry that has each text in a field of its own, and all in one binary field. */
function entryOf(texts: readonly string[]): string {
  const single = texts.map((text) => fieldOf(text)).join('');
  return `${single}${fieldOf(texts.join('\n'))}\n`;
}

function fieldOf(value: string): string {
  if (!value.includes('\n')) return `REDACTION_CHECK=${value}\n`;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(value.length));
  return `REDACTION_CHECK\n${length.toString('latin1')}${value}\n`;
}

/** The planted fields as they came out, those with one canary together. */
function valuesOf(came: string): string[] {
  const fields: JournalField[] = parseExport(Buffer.from(came, 'latin1')).flat();
  const values = fields.map(({ value }) => latin1(value));
  return [values.slice(0, -1).join('\n'), values.at(-1) ?? ''];
}

/** As text, in hex and in base64. */
function formsOf({ secret, drawn }: Canary): string[] {
  if (!drawn) return [];
  const bytes = Buffer.from(secret, 'latin1');
  const hex = bytes.toString('hex');
  const base64 = bytes.toString('base64').replace(/=+$/, '');
  return [secret, hex, hex.toUpperCase(), base64, base64.replaceAll('+', '-').replaceAll('/', '_')];
}
