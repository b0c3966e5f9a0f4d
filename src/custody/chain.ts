// The hash chain of the custody log, checked from bytes alone: one RFC 8785 JSON object a line, each naming the SHA-256
// of the line before it. Pure: no file, no clock.
import { createHash } from 'node:crypto';
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

export const hashLine = (line: string | Uint8Array): string =>
  createHash('sha256').update(line).digest('hex');

/** So many lines are read, in some milliseconds, between two calls of `alive`. */
export const linesAtOnce = 256;

/**
 * Checks every line; years of them take seconds, so `alive` is called now and then. A chain that was cut at its end is still whole in
 * itself: that shows only against a head held elsewhere (`checkRollback`).
 */
export function checkChain(bytes: Uint8Array, alive: () => void = () => {}): ChainCheck {
  const records: CustodyRecord[] = [];
  let head = emptyHead;
  for (let start = 0, number = 1; start < bytes.length; number += 1) {
    const newline = bytes.indexOf(0x0a, start);
    const line = bytes.subarray(start, newline === -1 ? bytes.length : newline);
    const record = newline === -1 ? 'it is torn: its end is missing' : readLine(line, head);
    if (typeof record === 'string') {
      return { ok: false, records, head, problem: `Line ${number} of the custody log is broken: ${record}.` };
    }
    records.push(record);
    if (number % linesAtOnce === 0) alive();
    head = { sequence: record.sequence, hash: hashLine(line) };
    start = newline + 1;
  }
  return { ok: true, records, head };
}

/** Whether a chain still holds a head that was seen earlier: records cut off or rewritten since then show here. */
export function checkRollback(chain: ChainCheck, known: CustodyHead): { ok: boolean; problem?: string } {
  if (chain.head.sequence < known.sequence) {
    return {
      ok: false,
      problem: `The custody log ends at record ${chain.head.sequence}, but record ${known.sequence} was seen earlier.`,
    };
  }
  if (hashOf(chain, known.sequence) !== known.hash.toLowerCase()) {
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
