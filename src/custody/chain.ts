// The hash chain of the custody log, checked from bytes alone: one RFC 8785 JSON object a line, each naming the SHA-256
// of the line before it. Pure: no file, no clock.
import { hash as digest } from 'node:crypto';
import canonicalize from 'canonicalize';

export interface CustodyRecord {
  /** From 1, without a gap. */
  readonly sequence: number;
  /** RFC 3339, UTC. */
  readonly time: string;
  /** Kebab-case: `provisioned`, `zeroized`, `maintenance-begun`. */
  readonly event: string;
  readonly detail: Readonly<Record<string, unknown>>;
  /** SHA-256 in hex of the previous line without its newline; `emptyHash` in the first. */
  readonly previous: string;
}

/** A place in the chain: `hash` is the SHA-256 in hex of the line with that sequence, without its newline. */
export interface CustodyHead {
  readonly sequence: number;
  readonly hash: string;
}

export interface ChainCheck {
  readonly ok: boolean;
  /** The records up to the first broken line. */
  readonly records: readonly CustodyRecord[];
  /** Of the last good line; `emptyHead` where there is none. */
  readonly head: CustodyHead;
  /** The first broken line and why, as a sentence; absent when `ok`. */
  readonly problem?: string;
}

export const emptyHash = '0'.repeat(64);
export const emptyHead: CustodyHead = { sequence: 0, hash: emptyHash };

export const hashLine = (line: string | Uint8Array): string => digest('sha256', line);

/** Bytes that come in pieces, cut into lines without their newlines. */
export class Lines {
  #rest: Uint8Array[] = [];

  /** The lines that end in these bytes; each is good until the bytes are overwritten. */
  *in(bytes: Uint8Array): Iterable<Uint8Array> {
    let start = 0;
    for (let end = bytes.indexOf(0x0a); end !== -1; end = bytes.indexOf(0x0a, start)) {
      const line = bytes.subarray(start, end);
      yield this.#rest.length === 0 ? line : Buffer.concat([...this.#rest.splice(0), line]);
      start = end + 1;
    }
    if (start < bytes.length) this.#rest.push(Buffer.from(bytes.subarray(start))); // A copy.
  }

  /** A line has begun whose end has not come. */
  get torn(): boolean {
    return this.#rest.length > 0;
  }
}

/** Where a check of the chain stands, from which another can go on. */
export interface Reached {
  /** Of the last good line. */
  readonly head: CustodyHead;
  readonly lines: number;
}

/** Checks every line of a log that comes in pieces, until the first that is broken. */
export class ChainWalk {
  readonly #seen: (record: CustodyRecord, hash: string) => void;
  readonly #lines = new Lines();
  #reached: Reached;
  #problem: string | undefined;

  /** `seen` is called with each good record and the hash of its line. */
  constructor(
    seen: (record: CustodyRecord, hash: string) => void,
    from: Reached = { head: emptyHead, lines: 0 },
  ) {
    this.#seen = seen;
    this.#reached = from;
  }

  get reached(): Reached {
    return this.#reached;
  }

  /** What is wrong with the line after those that are good. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** False from the first broken line on. */
  feed(bytes: Uint8Array): boolean {
    if (this.#problem !== undefined) return false;
    for (const line of this.#lines.in(bytes)) {
      const { head, lines } = this.#reached;
      const record = readLine(line, head);
      if (typeof record === 'string') {
        this.#problem = record;
        return false;
      }
      const hash = hashLine(line);
      this.#seen(record, hash);
      this.#reached = { head: { sequence: record.sequence, hash }, lines: lines + 1 };
    }
    return true;
  }

  /** Where the log ends, or one of its files: no line goes on in the next. */
  end(): boolean {
    if (this.#lines.torn) this.#problem ??= 'it is torn: its end is missing';
    return this.#problem === undefined;
  }
}

/** A chain that was cut at its end is still whole in itself: that shows only against a head held elsewhere (`checkRollback`). */
export function checkChain(bytes: Uint8Array): ChainCheck {
  const records: CustodyRecord[] = [];
  const walk = new ChainWalk((record) => records.push(record));
  walk.feed(bytes);
  const ok = walk.end();
  const { head, lines } = walk.reached;
  if (ok) return { ok, records, head };
  return { ok, records, head, problem: brokenLine(`${lines + 1} of the custody log`, walk.problem) };
}

export const brokenLine = (which: string, why = ''): string => `Line ${which} is broken: ${why}.`;

/** Whether a chain still holds a head that was seen earlier: records cut off or rewritten since then show here. */
export const checkRollback = (chain: ChainCheck, known: CustodyHead): { ok: boolean; problem?: string } =>
  compareHead(chain.head, known, hashOf(chain, known.sequence));

/** The same of a chain whose records are not at hand: `held` is the hash of its line with the number of `known`. */
export function compareHead(
  head: CustodyHead,
  known: CustodyHead,
  held: string | undefined,
): { ok: boolean; problem?: string } {
  if (head.sequence < known.sequence) {
    return {
      ok: false,
      problem: `The custody log ends at record ${head.sequence}, but record ${known.sequence} was seen earlier.`,
    };
  }
  if (held !== known.hash.toLowerCase()) {
    return { ok: false, problem: `Record ${known.sequence} of the custody log is not the one seen earlier.` };
  }
  return { ok: true };
}

/** The hash of a line of the chain: the next record names it, the head is the last. */
export function hashOf(chain: ChainCheck, sequence: number): string | undefined {
  return sequence === chain.head.sequence ? chain.head.hash : chain.records[sequence]?.previous;
}

/** The record of one line that follows `head`, or why it is none. */
export function readLine(line: Uint8Array, head: CustodyHead): CustodyRecord | string {
  const record = parseRecord(line);
  if (typeof record === 'string') return record;
  if (record.sequence !== head.sequence + 1) {
    return `its sequence is ${record.sequence}, expected ${head.sequence + 1}`;
  }
  if (record.previous !== head.hash) return 'it does not name the hash of the line before it';
  return record;
}

/** The record of one line by itself, or why it is none. */
export function parseRecord(line: Uint8Array): CustodyRecord | string {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(line);
    value = JSON.parse(text);
  } catch {
    return 'it is not JSON in UTF-8';
  }
  const record = asRecord(value);
  if (record === undefined) return 'it is not a custody record';
  if (canonical(record) !== text) return 'it is not in canonical form (RFC 8785)';
  return record;
}

/** The five members with their types; any other member is lost here and shows as not canonical. */
function asRecord(value: unknown): CustodyRecord | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { sequence, time, event, detail, previous } = value as Record<string, unknown>;
  const well =
    typeof sequence === 'number' &&
    Number.isSafeInteger(sequence) &&
    sequence >= 1 &&
    typeof time === 'string' &&
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(time) &&
    typeof event === 'string' &&
    event !== '' &&
    typeof detail === 'object' &&
    detail !== null &&
    !Array.isArray(detail) &&
    typeof previous === 'string' &&
    /^[0-9a-f]{64}$/.test(previous);
  return well ? { sequence, time, event, detail: detail as Record<string, unknown>, previous } : undefined;
}

/** RFC 8785, or undefined for what it cannot say (a lone surrogate, nesting beyond the stack). */
function canonical(record: CustodyRecord): string | undefined {
  try {
    return canonicalize(record);
  } catch {
    return undefined;
  }
}
