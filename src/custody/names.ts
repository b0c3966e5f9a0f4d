// Names inside the custody log are commitments: HMAC-SHA-256 (RFC 2104) of the name under a key that never leaves the state
// directory. A bundle carries the log whole and tells nobody what the interfaces are called or why a window was opened; on the
// node a table says what each stands for, and whoever is given the key can prove a name.
import { createHmac, randomBytes } from 'node:crypto';
import { appendFileSync, existsSync, linkSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readIfPresent, syncDirectory, writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';

/** Members of a detail that hold names, or words of a person. */
const named = new Set([
  'interface',
  'interfaces',
  'reason',
  'why',
  'link',
  'peer',
  'from',
  'source',
  'where',
]);
const prefix = 'hmac-sha256:';
const keyLength = 32;
/** Hex digits of a commitment: 128 bits, which nobody finds a second name for. */
const digits = 32;

type Detail = Readonly<Record<string, unknown>>;

export const isCommitment = (text: string): boolean => /^hmac-sha256:[0-9a-f]{32}$/.test(text);

/** Pure. The commitment to a name. */
export const commitmentTo = (key: Uint8Array, name: string): string =>
  prefix + createHmac('sha256', key).update(name).digest('hex').slice(0, digits);

/** Pure. The detail with what `change` makes of each text of a named member, at any depth. */
export function changeNames(detail: Detail, change: (text: string) => string): Detail {
  const walk = (value: unknown, isName: boolean): unknown => {
    if (typeof value === 'string') return isName && value !== '' ? change(value) : value;
    if (Array.isArray(value)) return value.map((each) => walk(each, isName));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, walk(each, named.has(key))]));
  };
  return walk(detail, false) as Detail;
}

/** The names of one log, in two files beside it: the key, and a line for each name that was committed to. */
export class CustodyNames {
  readonly #keyPath: string;
  readonly #tablePath: string;
  #key: Uint8Array | undefined;
  #known: Map<string, string> | undefined;
  /** The table's last line was cut by a full disk or a power cut; the next one begins on its own. */
  #torn = false;

  constructor(logPath: string) {
    this.#keyPath = join(dirname(logPath), 'custody-names.key');
    this.#tablePath = join(dirname(logPath), 'custody-names.jsonl');
  }

  /** The detail as it is written. @throws Failure `custody-key-damaged`. */
  commit(detail: Detail): Detail {
    return changeNames(detail, (name) => (isCommitment(name) ? name : this.#commitment(name)));
  }

  /** The detail as a person reads it; a commitment that nobody knows the name of stays what it is. */
  resolve(detail: Detail): Detail {
    return changeNames(detail, (text) => this.#table().get(text) ?? text);
  }

  #commitment(name: string): string {
    this.#key ??= this.#loadKey();
    const commitment = commitmentTo(this.#key, name);
    if (!this.#table().has(commitment)) {
      const line = `${this.#torn ? '\n' : ''}${JSON.stringify({ commitment, name })}\n`;
      this.#torn = true;
      appendFileSync(this.#tablePath, line, { mode: 0o600, flush: true });
      this.#torn = false;
      this.#table().set(commitment, name);
    }
    return commitment;
  }

  /** Lines that are torn or not understood are left out: a name is lost, never the log. */
  #table(): Map<string, string> {
    if (this.#known !== undefined) return this.#known;
    const known = new Map<string, string>();
    const text = readIfPresent(this.#tablePath) ?? '';
    this.#torn ||= text !== '' && !text.endsWith('\n');
    for (const line of text.split('\n')) {
      try {
        const { commitment, name } = JSON.parse(line) as { commitment?: unknown; name?: unknown };
        if (typeof commitment === 'string' && typeof name === 'string') known.set(commitment, name);
      } catch {}
    }
    this.#known = known;
    return known;
  }

  /** Written beside and linked to its name: it is there whole, or not at all, and of two processes that make one, one wins. */
  #loadKey(): Uint8Array {
    if (!existsSync(this.#keyPath)) {
      const beside = `${this.#keyPath}.${process.pid}`;
      try {
        writeDurably(beside, randomBytes(keyLength));
        linkSync(beside, this.#keyPath);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      } finally {
        rmSync(beside, { force: true });
      }
      syncDirectory(dirname(this.#keyPath));
    }
    return this.#readKey();
  }

  #readKey(): Uint8Array {
    const key = readFileSync(this.#keyPath);
    if (key.length === keyLength) return key;
    throw new Failure('custody-key-damaged', `The key ${this.#keyPath} has ${key.length} bytes, not 32.`, {
      kept: 'The custody log was left as it is.',
      remedy:
        'Restore it from a copy. Remove it to begin a new one: names written before stay readable in the table.',
    });
  }
}
