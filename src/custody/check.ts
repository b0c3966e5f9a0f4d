// The custody log read from its files, in pieces: whether its chain is whole, and the records of certain events. On whatever thread
// it is asked; who has heartbeats to give asks `aside.ts`.
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { type Standing, StandingWalk } from './anchor.ts';
import {
  brokenLine,
  ChainWalk,
  type CustodyHead,
  type CustodyRecord,
  compareHead,
  emptyHead,
  Lines,
  parseRecord,
  type Reached,
} from './chain.ts';
import { bytesOf, type LogPart } from './segments.ts';

/** A check of the whole log, without its records. */
export interface LogCheck {
  readonly ok: boolean;
  /** Of the last good line; `emptyHead` where there is none. */
  readonly head: CustodyHead;
  /** The first broken line and why, as a sentence; absent when `ok`. */
  readonly problem?: string;
  /** What the log asks the TPM to hold, up to the first broken line, held against what it holds. */
  readonly standing: Standing;
}

/** What a check has found out of the files that are moved aside: it holds until somebody writes to one of them. */
export interface Settled extends Reached {
  /** Of the files, as in `LogPart`. */
  readonly marks: readonly string[];
  readonly standing?: Pick<Standing, 'last' | 'value'>;
}

const nothingSettled: Settled = { head: emptyHead, lines: 0, marks: [] };

/** `from`, where the files that it tells of are as they were. */
export function stillSettled(parts: readonly LogPart[], from: Settled | undefined): Settled {
  const holds = from?.marks.every((mark, at) => mark === parts[at]?.mark) ?? false;
  return holds && from !== undefined ? from : nothingSettled;
}

/** What a check begins with. */
export interface Given {
  /** What was found out before. */
  readonly from?: Settled | undefined;
  /** What the TPM's index holds. */
  readonly held?: Uint8Array | undefined;
}

/** Checks every line of the files that `from` does not tell of. `seen` is called with each of their good records. */
export function checkParts(
  parts: readonly LogPart[],
  { from, held }: Given = {},
  seen: (record: CustodyRecord, hash: string) => void = () => {},
): { readonly check: LogCheck; readonly settled: Settled } {
  let settled = stillSettled(parts, from);
  const standing = new StandingWalk(held, settled.standing);
  const walk = new ChainWalk((record, hash) => {
    standing.note(record, hash);
    seen(record, hash);
  }, settled);
  for (const [at, part] of [...parts.entries()].slice(settled.marks.length)) {
    const before = walk.reached.lines;
    for (const piece of bytesOf(part)) if (!walk.feed(piece)) break;
    const { head, lines } = walk.reached;
    if (!walk.end()) {
      const number = `${lines + 1} of the custody log`;
      const which = parts.length === 1 ? number : `${number}, line ${lines + 1 - before} of ${part.name},`;
      const problem = brokenLine(which, walk.problem);
      return { check: { ok: false, head, problem, standing: standing.standing }, settled };
    }
    if (at === parts.length - 1) break;
    const { last, value } = standing.standing;
    settled = { head, lines, marks: [...settled.marks, part.mark], standing: { last, value } };
  }
  return { check: { ok: true, head: walk.reached.head, standing: standing.standing }, settled };
}

/** Checks every line of a log whose pieces come by themselves, and that it holds the head that is known of it. */
export async function checkPieces(
  pieces: AsyncIterable<Uint8Array>,
  known: CustodyHead = emptyHead,
): Promise<Omit<LogCheck, 'standing'>> {
  let held = known.sequence === emptyHead.sequence ? emptyHead.hash : undefined;
  const walk = new ChainWalk(({ sequence }, hash) => {
    if (sequence === known.sequence) held = hash;
  });
  for await (const piece of pieces) walk.feed(piece);
  const ok = walk.end();
  const { head, lines } = walk.reached;
  if (ok) return { head, ...compareHead(head, known, held) };
  return { ok, head, problem: brokenLine(`${lines + 1} of the custody log`, walk.problem) };
}

/** As `checkPieces`, of a log in one gzip file. */
export const checkGzip = (path: string, known?: CustodyHead): Promise<Omit<LogCheck, 'standing'>> =>
  pipeline(createReadStream(path), createGunzip(), (pieces) => checkPieces(pieces, known));

/** Which records are looked for. */
export interface Sought {
  readonly events: readonly string[];
  /** RFC 3339: none that is older. */
  readonly since?: string;
  /** None but those whose detail has one of these as its `sequence`. */
  readonly bundles?: readonly number[];
}

export interface Found {
  readonly records: CustodyRecord[];
  /** A line that is no record, which ended the search. */
  readonly problem?: string;
}

/** In their order. The chain is not checked; a line that is not looked for is not parsed either, which is what most of the time goes into. */
export function* recordsIn(
  parts: readonly LogPart[],
  sought?: Sought,
): Generator<CustodyRecord, string | undefined> {
  const wanted = sought === undefined ? undefined : new Set(sought.events);
  const since = sought?.since ?? '';
  const bundles = sought?.bundles === undefined ? undefined : new Set<unknown>(sought.bundles);
  for (const part of parts) {
    const lines = new Lines();
    for (const piece of bytesOf(part)) {
      for (const line of lines.in(piece)) {
        const [, event = '', time = ''] = endOf(line) ?? [];
        if (event !== '' && (time < since || wanted?.has(event) === false)) continue;
        const record = parseRecord(line);
        if (typeof record === 'string') return record;
        if (bundles?.has(record.detail.sequence) !== false) yield record;
      }
    }
    if (lines.torn && part !== parts.at(-1)) return `the end of ${part.name} is missing`;
  }
  return undefined;
}

export function findIn(parts: readonly LogPart[], sought: Sought): Found {
  const records: CustodyRecord[] = [];
  const search = recordsIn(parts, sought);
  for (let next = search.next(); ; next = search.next()) {
    if (next.done === true) return next.value === undefined ? { records } : { records, problem: next.value };
    records.push(next.value);
  }
}

/** More than the end of a record with the longest name of an event takes. */
const longestEnd = 400;

/** Event and time of a canonical record (RFC 8785), whose members stand in this order; a text in its detail cannot hold a bare quote. */
function endOf(line: Uint8Array): RegExpExecArray | null {
  const end = Buffer.from(line.subarray(Math.max(0, line.length - longestEnd))).toString('latin1');
  return /,"event":"([^"\\]+)","previous":"[0-9a-f]{64}","sequence":\d+,"time":"([^"\\]+)"\}$/.exec(end);
}
