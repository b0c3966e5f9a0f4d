// The custody log: what happened to this node, in order, as a hash-chained file that only grows. Each record is on the
// medium before `append` returns. One process writes at a time; another's records are noticed before the next append.
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import canonicalize from 'canonicalize';
import { syncDirectory } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import { type CustodyHead, type CustodyRecord, emptyHead, hashLine, parseRecord } from './chain.ts';

export class CustodyLog implements Disposable {
  readonly path: string;
  readonly #clock: () => string;
  readonly #fd: number;
  #head: CustodyHead = emptyHead;
  /** Bytes of the file that `#head` speaks for. */
  #size = 0;
  #open = true;

  private constructor(path: string, clock: () => string) {
    this.path = path;
    this.#clock = clock;
    this.#fd = openSync(path, 'a+', 0o600);
    if (fstatSync(this.#fd).size === 0) syncDirectory(dirname(path));
  }

  /**
   * Opens or creates the log. A last line torn by a power cut is moved aside to `PATH.torn` and the recovery recorded.
   * @throws Failure `custody-unreadable` when the last whole line is not a custody record.
   */
  static open(path: string, clock: () => string = utcNow): CustodyLog {
    const log = new CustodyLog(path, clock);
    try {
      log.#catchUp();
      return log;
    } catch (error) {
      log.close();
      throw error;
    }
  }

  /** Writes one record and syncs it. `detail` is any JSON object; it must hold no secret and no names under redaction. */
  append(event: string, detail: object): CustodyRecord {
    if (!this.#open) throw new Error('The custody log has been closed.');
    this.#catchUp();
    return this.#write(event, detail);
  }

  /** Of the last record; sequence 0 and 64 zeros for an empty log. */
  head(): CustodyHead {
    return this.#head;
  }

  /** All records from the first, read anew. @throws Failure `custody-unreadable` at a line that is none. */
  *records(): Iterable<CustodyRecord> {
    const bytes = this.#read(0, fstatSync(this.#fd).size);
    for (let start = 0; start < bytes.length; ) {
      const newline = bytes.indexOf(0x0a, start);
      if (newline === -1) return;
      yield this.#parse(bytes.subarray(start, newline));
      start = newline + 1;
    }
  }

  close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #write(event: string, detail: object): CustodyRecord {
    const record: CustodyRecord = {
      sequence: this.#head.sequence + 1,
      time: this.#clock(),
      event,
      detail: plain(detail),
      previous: this.#head.hash,
    };
    const line = Buffer.from(`${canonicalize(record)}\n`);
    for (let done = 0; done < line.length; ) done += writeSync(this.#fd, line, done);
    fsyncSync(this.#fd);
    this.#size += line.length;
    this.#head = { sequence: record.sequence, hash: hashLine(line.subarray(0, -1)) };
    return record;
  }

  /** Reads the head from the file where it is not the one we know, and moves a torn end aside. */
  #catchUp(): void {
    const { size } = fstatSync(this.#fd);
    if (size === this.#size) return;
    const { line, end } = this.#lastLine(size);
    const torn = end < size ? this.#read(end, size) : undefined;
    const record = line === undefined ? undefined : this.#parse(line);
    this.#head =
      record === undefined || line === undefined
        ? emptyHead
        : { sequence: record.sequence, hash: hashLine(line) };
    this.#size = end;
    if (torn !== undefined) this.#moveAside(torn);
  }

  #moveAside(torn: Buffer): void {
    const aside = `${this.path}.torn`;
    const fd = openSync(aside, 'a', 0o600);
    try {
      writeSync(fd, torn);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    ftruncateSync(this.#fd, this.#size);
    fsyncSync(this.#fd);
    syncDirectory(dirname(aside));
    this.#write('custody-recovered', { bytes: torn.length, sha256: hashLine(torn) });
  }

  /** The last line that has its newline, and where it ends; what follows is torn. */
  #lastLine(size: number): { line: Buffer | undefined; end: number } {
    let end: number | undefined;
    for (let length = Math.min(4096, size); ; length = Math.min(length * 4, size)) {
      const tail = this.#read(size - length, size);
      const last = tail.lastIndexOf(0x0a);
      end = last === -1 ? undefined : size - length + last + 1;
      const before = last < 1 ? -1 : tail.lastIndexOf(0x0a, last - 1);
      if (end !== undefined && (before !== -1 || length === size)) {
        return { line: tail.subarray(before + 1, last), end };
      }
      if (length === size) return { line: undefined, end: 0 };
    }
  }

  #read(from: number, to: number): Buffer {
    const bytes = Buffer.alloc(to - from);
    let done = 0;
    while (done < bytes.length) {
      const count = readSync(this.#fd, bytes, done, bytes.length - done, from + done);
      if (count === 0) break;
      done += count;
    }
    return bytes.subarray(0, done);
  }

  #parse(line: Uint8Array): CustodyRecord {
    const record = parseRecord(line);
    if (typeof record !== 'string') return record;
    throw new Failure('custody-unreadable', `A line of the custody log ${this.path} is broken: ${record}.`, {
      kept: 'The log was left as it is.',
      remedy:
        'Look at it with `esoteric-appliance custody check`; keep it as evidence and provision the node anew.',
    });
  }
}

/** What JSON keeps of the detail, with lone surrogates (which RFC 8785 refuses) replaced. */
function plain(detail: object): Record<string, unknown> {
  return JSON.parse(JSON.stringify(detail), (_, value) =>
    typeof value === 'string' ? value.toWellFormed() : value,
  );
}
