// Random bytes to a file descriptor, as fast as it takes them: what `stream` prints to a pipe or a file.
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Format, Formatter } from './format.ts';
import { Rate } from './rate.ts';

const blockLength = 1 << 20;
/** How long the event loop (signals, the control socket) may have to wait. */
const turnMilliseconds = 20;

export interface StreamOptions {
  /** Default raw. */
  readonly format?: Format | undefined;
  /** Bytes of output (before formatting) a second; no limit unless told. */
  readonly rate?: number | undefined;
  /** Most bytes that are read at a time, where reading is slow; a mebibyte unless told. */
  readonly piece?: number | undefined;
  /** Asked while it waits for a slow reader, too: throws where nothing may be given out any more, what is left of a block included. */
  readonly admit?: (() => void) | undefined;
}

/**
 * Writes `bytes` of output (null: without end) from `read` to `fd`, and returns how many were taken: fewer than asked
 * when the reader has gone (EPIPE), which is no failure.
 * @throws what `read` throws (a zeroize ends the stream), or the error of the write.
 */
export async function streamRandom(
  read: (out: Uint8Array) => void,
  bytes: number | null,
  fd: number,
  options: StreamOptions = {},
): Promise<number> {
  const block = new Uint8Array(blockLength);
  using sink = new Sink(fd, options);
  const wanted = bytes ?? Number.POSITIVE_INFINITY;
  let written = 0;
  try {
    while (written < wanted) {
      const part = block.subarray(0, Math.min(blockLength, sink.piece, wanted - written));
      await sink.ready(part.length);
      read(part);
      const taken = await sink.write(part);
      written += taken;
      if (taken < part.length) return written;
    }
    await sink.end();
    return written;
  } finally {
    block.fill(0);
  }
}

/** A descriptor with a format and a rate. Dispose of it at the end. */
export class Sink implements Disposable {
  readonly #fd: number;
  readonly #own: boolean;
  readonly #formatter: Formatter | undefined;
  readonly #rate: Rate | undefined;
  readonly #piece: number;
  readonly #admit: () => void;
  #turnEnds = performance.now() + turnMilliseconds;

  constructor(fd: number, { format = 'raw', rate, piece = blockLength, admit = () => {} }: StreamOptions) {
    const unblocking = unblockingPipe(fd);
    this.#fd = unblocking ?? fd;
    this.#own = unblocking !== undefined;
    this.#formatter = format === 'raw' ? undefined : new Formatter(format);
    this.#rate = rate === undefined ? undefined : new Rate(rate);
    this.#piece = Math.min(piece, this.#rate?.piece ?? piece);
    this.#admit = admit;
  }

  [Symbol.dispose](): void {
    if (this.#own) closeSync(this.#fd);
  }

  /** Most bytes of one `write`. */
  get piece(): number {
    return this.#piece;
  }

  /** Resolves when so many bytes may go. */
  async ready(bytes: number): Promise<void> {
    this.#admit();
    for (let wait = this.#rate?.take(bytes) ?? 0; wait > 0; wait = this.#rate?.take(bytes) ?? 0) {
      await sleep(Math.max(1, wait));
      this.#admit();
    }
  }

  /** Bytes of `part` that went: fewer when the reader has gone. */
  async write(part: Uint8Array): Promise<number> {
    const text = this.#formatter?.push(part);
    const written = await this.#writeAll(text ?? part);
    if (text === undefined) return written;
    return written === text.length ? part.length : 0;
  }

  async end(): Promise<void> {
    const rest = this.#formatter?.end();
    if (rest !== undefined) await this.#writeAll(rest);
  }

  async #writeAll(bytes: Uint8Array): Promise<number> {
    for (let done = 0; done < bytes.length; ) {
      const taken = tryWrite(this.#fd, bytes, done);
      if (taken === 'gone') return done;
      done += taken;
      const left = this.#turnEnds - performance.now();
      if (left > 0 && (taken > 0 || (await writableSoon(this.#fd, left)))) continue;
      await new Promise((resolve) => setImmediate(resolve));
      this.#admit();
      this.#turnEnds = performance.now() + turnMilliseconds;
    }
    return bytes.length;
  }
}

/**
 * The same pipe, opened once more, so that a write never waits in the kernel: a zeroize would wait, too. Whoever else has it open (a shell)
 * keeps it as it was. Undefined where it is no pipe, or cannot be opened.
 */
function unblockingPipe(fd: number): number | undefined {
  try {
    if (!fstatSync(fd).isFIFO()) return undefined;
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
}

/** Loaded when a pipe is full, and not before. */
async function writableSoon(fd: number, milliseconds: number): Promise<boolean> {
  const { writable } = await import('../../host/device-calls.ts');
  return writable(fd, Math.ceil(milliseconds));
}

/** Bytes taken, 0 where a non-blocking pipe is full. */
function tryWrite(fd: number, bytes: Uint8Array, from: number): number | 'gone' {
  try {
    return writeSync(fd, bytes, from);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EAGAIN') return 0;
    if (code === 'EPIPE') return 'gone';
    throw error;
  }
}
