// The custody log: what happened to this node, in order, as a hash-chained file that only grows. Each record is on the
// medium before `append` returns. One process writes at a time; another's records are noticed before the next append. Names are
// written as commitments (names.ts); a file that has grown is moved aside, and the chain goes on (segments.ts).
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import canonicalize from 'canonicalize';
import { syncDirectory } from '../host/durable.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import { findAside } from './aside.ts';
import { type CustodyHead, type CustodyRecord, emptyHead, hashLine, parseRecord } from './chain.ts';
import { recordsIn, type Sought } from './check.ts';
import { CustodyNames } from './names.ts';
import { LogFiles, moveAside, segmentsOf } from './segments.ts';

/** A file of this many bytes is moved aside. */
const longestFile = 16 << 20;

export class CustodyLog implements Disposable {
  readonly path: string;
  readonly #clock: () => string;
  readonly #names: CustodyNames;
  readonly #limit: number;
  #fd: number;
  #head: CustodyHead = emptyHead;
  /** Bytes of the file that `#head` speaks for. */
  #size = 0;
  #open = true;

  private constructor(path: string, clock: () => string, limit: number) {
    this.path = path;
    this.#clock = clock;
    this.#limit = limit;
    this.#names = new CustodyNames(path);
    this.#fd = openSync(path, 'a+', 0o600);
    if (fstatSync(this.#fd).size === 0) syncDirectory(dirname(path));
  }

  /**
   * Opens or creates the log. A last line torn by a power cut is moved aside to `PATH.torn` and the recovery recorded.
   * @throws Failure `custody-unreadable` when the last whole line is not a custody record; `custody-unwritable`.
   */
  static open(path: string, clock: () => string = utcNow, limit = longestFile): CustodyLog {
    let log: CustodyLog | undefined;
    try {
      log = new CustodyLog(path, clock, limit);
      log.#catchUp();
      return log;
    } catch (error) {
      log?.close();
      throw unwritable(path, error);
    }
  }

  /**
   * Writes one record and syncs it. `detail` is any JSON object that holds no secret; its names are committed to.
   * @throws Failure `custody-unwritable` where the disk is full or broken; the log ends as before then.
   */
  append(event: string, detail: object): CustodyRecord {
    if (!this.#open) throw new Error('The custody log has been closed.');
    try {
      this.#followRotation();
      this.#catchUp();
      if (this.#size >= this.#limit) this.#rotate();
      return this.#write(event, detail);
    } catch (error) {
      throw unwritable(this.path, error);
    }
  }

  /** Of the last record; sequence 0 and 64 zeros for an empty log. */
  head(): CustodyHead {
    return this.#head;
  }

  /**
   * The records that are sought, or all, up to the first line that is none, read anew, with the names that this node knows. Years of them
   * take seconds, in which this thread does nothing else: see `recall`.
   */
  *records(sought?: Sought): Iterable<CustodyRecord> {
    using files = new LogFiles(this.path);
    for (const record of recordsIn(files.parts, sought)) yield this.#named(record);
  }

  /** As `records`, read on another thread. @throws Failure `custody-unreadable` at a line that is none. */
  async recall(sought: Sought): Promise<CustodyRecord[]> {
    const { records, problem } = await findAside(this.path, sought);
    if (problem !== undefined) throw this.#unreadable(problem);
    return records.map((record) => this.#named(record));
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
      detail: this.#names.commit(plain(detail)),
      previous: this.#head.hash,
    };
    const line = Buffer.from(`${canonicalize(record)}\n`);
    try {
      for (let done = 0; done < line.length; ) done += writeSync(this.#fd, line, done);
      fsyncSync(this.#fd);
    } catch (error) {
      this.#takeBack();
      throw error;
    }
    this.#size += line.length;
    this.#head = { sequence: record.sequence, hash: hashLine(line.subarray(0, -1)) };
    return record;
  }

  /** A part of a line goes again; where that fails as well, the log is torn, and recovered at the next append. */
  #takeBack(): void {
    try {
      ftruncateSync(this.#fd, this.#size);
    } catch {}
  }

  /** Begins a new file, whose first record names the one before. A kill in between leaves none, or an empty one: see `#catchUp`. */
  #rotate(): void {
    const { sequence } = this.#head;
    moveAside(this.path, sequence);
    this.#reopen();
    this.#write('custody-rotated', { records: sequence });
  }

  /** Another process has moved the file aside that this one holds open. */
  #followRotation(): void {
    const there = statSync(this.path, { throwIfNoEntry: false });
    if (there === undefined || there.ino !== fstatSync(this.#fd).ino) this.#reopen();
  }

  #reopen(): void {
    closeSync(this.#fd);
    this.#fd = openSync(this.path, 'a+', 0o600);
    syncDirectory(dirname(this.path));
    this.#size = 0;
    this.#head = this.#headBefore();
  }

  /** The head that this file goes on from. */
  #headBefore(): CustodyHead {
    const last = segmentsOf(this.path).at(-1);
    if (last === undefined) return emptyHead;
    const bytes = readFileSync(last);
    const line = bytes.subarray(bytes.lastIndexOf(0x0a, bytes.length - 2) + 1, bytes.length - 1);
    return { sequence: this.#parse(line).sequence, hash: hashLine(line) };
  }

  /** Reads the head from the file where it is not the one we know, and moves a torn end aside. */
  #catchUp(): void {
    const { size } = fstatSync(this.#fd);
    if (size === 0 && this.#size === 0) this.#head = this.#headBefore();
    if (size === this.#size) return;
    const { line, end } = this.#lastLine(size);
    const torn = end < size ? this.#read(end, size) : undefined;
    const record = line === undefined ? undefined : this.#parse(line);
    this.#head =
      record === undefined || line === undefined
        ? this.#headBefore()
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

  #named(record: CustodyRecord): CustodyRecord {
    return { ...record, detail: this.#names.resolve(record.detail) };
  }

  #parse(line: Uint8Array): CustodyRecord {
    const record = parseRecord(line);
    if (typeof record === 'string') throw this.#unreadable(record);
    return record;
  }

  #unreadable(why: string): Failure {
    return new Failure('custody-unreadable', `A line of the custody log ${this.path} is broken: ${why}.`, {
      kept: 'The log was left as it is.',
      remedy:
        'Look at it with `esoteric-appliance custody check`; keep it as evidence and provision the node anew.',
    });
  }
}

function unwritable(path: string, cause: unknown): Failure {
  if (cause instanceof Failure) return cause;
  return new Failure('custody-unwritable', `The custody log cannot be written: ${reasonOf(cause)}`, {
    kept: 'Its earlier records are intact.',
    remedy: `Make room on the disk of ${dirname(path)}, and see that it can be written.`,
    cause,
  });
}

/** What JSON keeps of the detail, with lone surrogates (which RFC 8785 refuses) replaced. */
function plain(detail: object): Record<string, unknown> {
  return JSON.parse(JSON.stringify(detail), (_, value) =>
    typeof value === 'string' ? value.toWellFormed() : value,
  );
}
