// The board: the shared memory on which the main thread and the watcher thread meet. Plain words, atomics, no messages, so
// that neither needs the other's event loop.
import type { Interface } from '../host/netlink.ts';

export const watchedLimit = 16;
const actionLimit = 16;
const alsoLimit = 32;
const actionLength = 64;

/** Words of the board (`Int32Array`). Times are milliseconds since the board was made; they wrap, so ask `since`. */
export const word = {
  stop: 0,
  /** 0 starting, 1 armed, 2 zeroizing, 3 zeroized, 4 stopped. */
  phase: 1,
  /** A cause number that the main thread asks for. */
  request: 2,
  /** The cause that won; set once. */
  cause: 3,
  /** Index of the interface that it happened on; 0 for none. */
  causeInterface: 4,
  mainBeat: 5,
  watcherBeat: 6,
  windowUntil: 7,
  /** Bit n: the n-th watched interface is inside the window. */
  windowMask: 8,
  windowFlapsLeft: 9,
  actionCount: 10,
  watchedCount: 11,
  kernelFailures: 12,
  tpmResult: 13,
  diskResult: 14,
  /** Numbers of levels, from 1; 0 is none. What the operator asks for, and what was done. */
  requestedLevel: 15,
  level: 16,
  /** See `windowState`. */
  window: 17,
  /** See `stage`: how far the zeroize has come. */
  stage: 18,
  /** Causes that came while it was under way. */
  alsoCount: 19,
  /** Decisions taken so far; the board keeps the last of them. */
  decisionCount: 20,
} as const;

/** The stages that have ended, in their order. */
export const stage = { none: 0, memory: 1, kernel: 2, tpm: 3, disk: 4 } as const;

/** Closing: the main thread has closed it, and the watcher has yet to look at the interfaces that were inside. */
export const windowState = { closed: 0, open: 1, closing: 2 } as const;

/** Numbers of the moments (`Float64Array`, CLOCK_MONOTONIC in microseconds, 0 while it has not happened). */
export const moment = { armed: 0, detected: 1, memory: 2, kernel: 3, tpm: 4, disk: 5 } as const;
const moments = 6;

export const phase = { starting: 0, armed: 1, zeroizing: 2, zeroized: 3, stopped: 4 } as const;

const wordsLength = 32;
const watchedWords = 4; // index, carrier, up count, down count
const watchedAt = wordsLength * 4 + moments * 8;
const actionsAt = watchedAt + watchedLimit * watchedWords * 4;
const alsoAt = actionsAt + actionLimit * actionLength;
const decisionsAt = alsoAt + alsoLimit * 2 * 4;
const decisionLimit = 128;
const decisionWords = 4; // sequence, microseconds, verdict, interface index
const boardLength = decisionsAt + decisionLimit * decisionWords * 8;

const actionKind = { netlink: 1, endProcess: 2 } as const;

/** A kernel action made ready beforehand: an rtnetlink message, or a pidfd whose process is ended. */
export type KernelAction = { readonly message: Uint8Array } | { readonly pidfd: number };

/** One decision of the watcher; `verdict` as `decide` returns it. */
export interface Decision {
  /** From 1. */
  readonly sequence: number;
  /** CLOCK_MONOTONIC. */
  readonly micros: number;
  readonly verdict: number;
  readonly interfaceIndex: number;
}

export class Board {
  readonly memory: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly moments: Float64Array;
  readonly #watched: Int32Array;
  readonly #actions: DataView;
  readonly #also: Int32Array;
  readonly #decisions: Float64Array;
  /** `Date`-free origin of the board's milliseconds. */
  readonly #origin: number;

  constructor(memory = new SharedArrayBuffer(boardLength + 8)) {
    this.memory = memory;
    this.words = new Int32Array(memory, 0, wordsLength);
    this.moments = new Float64Array(memory, wordsLength * 4, moments);
    this.#watched = new Int32Array(memory, watchedAt, watchedLimit * watchedWords);
    this.#actions = new DataView(memory, actionsAt, actionLimit * actionLength);
    this.#also = new Int32Array(memory, alsoAt, alsoLimit * 2);
    this.#decisions = new Float64Array(memory, decisionsAt, decisionLimit * decisionWords);
    const origin = new Float64Array(memory, boardLength & ~7, 1);
    if (origin[0] === 0) origin[0] = nowMilliseconds();
    this.#origin = origin[0] ?? 0;
  }

  /** Milliseconds since the board was made, the same in each thread. */
  now(): number {
    return nowMilliseconds() - this.#origin;
  }

  /** Milliseconds since the time in a word, negative when it is to come. Right as long as they are fewer than 2^31. */
  since(time: number): number {
    return (this.now() - Atomics.load(this.words, time)) | 0;
  }

  watch(position: number, link: Interface): void {
    this.#watched.set(
      [link.index, link.carrier ? 1 : 0, link.upCount, link.downCount],
      position * watchedWords,
    );
    Atomics.store(this.words, word.watchedCount, Math.max(position + 1, this.words[word.watchedCount] ?? 0));
  }

  /** The four words of one watched interface: index, carrier, up count, down count. */
  watched(position: number): Int32Array {
    return this.#watched.subarray(position * watchedWords, (position + 1) * watchedWords);
  }

  /** A cause that came after the one that won. Beyond the limit they are counted only. */
  addAlso(cause: number, interfaceIndex: number): void {
    const { words } = this;
    const won = Atomics.load(words, word.cause) === cause;
    if (won && Atomics.load(words, word.causeInterface) === interfaceIndex) return;
    for (let n = 0; n < Math.min(this.alsoCount, alsoLimit); n += 1) {
      if (this.#also[n * 2] === cause && this.#also[n * 2 + 1] === interfaceIndex) return;
    }
    const slot = Atomics.add(this.words, word.alsoCount, 1);
    if (slot < alsoLimit) this.#also.set([cause, interfaceIndex], slot * 2);
  }

  get alsoCount(): number {
    return Atomics.load(this.words, word.alsoCount);
  }

  /** Cause number and interface index of each cause that came after the one that won. */
  also(): { readonly cause: number; readonly interfaceIndex: number }[] {
    return Array.from({ length: Math.min(this.alsoCount, alsoLimit) }, (_, n) => ({
      cause: this.#also[n * 2] ?? 0,
      interfaceIndex: this.#also[n * 2 + 1] ?? 0,
    }));
  }

  /** Writes a decision down: a cause's number, or -n for n planned flaps. The oldest of many is overwritten. */
  note(verdict: number, interfaceIndex: number, micros: number): void {
    const sequence = Atomics.add(this.words, word.decisionCount, 1);
    const at = (sequence % decisionLimit) * decisionWords;
    this.#decisions[at] = sequence + 1;
    this.#decisions[at + 1] = micros;
    this.#decisions[at + 2] = verdict;
    this.#decisions[at + 3] = interfaceIndex;
  }

  /** The decisions that the board still holds, the oldest first. */
  decisions(): Decision[] {
    return Array.from({ length: decisionLimit }, (_, n) => {
      const [sequence = 0, micros = 0, verdict = 0, interfaceIndex = 0] = this.#decisions.subarray(
        n * decisionWords,
        (n + 1) * decisionWords,
      );
      return { sequence, micros, verdict, interfaceIndex };
    })
      .filter(({ sequence }) => sequence > 0)
      .sort((a, b) => a.sequence - b.sequence);
  }

  /** Adds an action to the kernel stage. Throws when all slots are taken: better no link than one that stays. */
  addAction(action: KernelAction): void {
    const slot = Atomics.load(this.words, word.actionCount);
    if (slot >= actionLimit) throw new RangeError(`More than ${actionLimit} kernel actions.`);
    if ('message' in action && action.message.length > actionLength - 8)
      throw new RangeError(`A kernel action of more than ${actionLength - 8} bytes.`);
    const at = slot * actionLength;
    if ('message' in action) {
      this.#actions.setUint32(at, actionKind.netlink, true);
      this.#actions.setUint32(at + 4, action.message.length, true);
      action.message.forEach((byte, n) => {
        this.#actions.setUint8(at + 8 + n, byte);
      });
    } else {
      this.#actions.setUint32(at, actionKind.endProcess, true);
      this.#actions.setInt32(at + 8, action.pidfd, true);
    }
    Atomics.store(this.words, word.actionCount, slot + 1);
  }

  /** The actions as they stand, in the order in which they were added. */
  actions(): KernelAction[] {
    return Array.from({ length: Atomics.load(this.words, word.actionCount) }, (_, slot) => {
      const at = slot * actionLength;
      if (this.#actions.getUint32(at, true) === actionKind.endProcess) {
        return { pidfd: this.#actions.getInt32(at + 8, true) };
      }
      const length = this.#actions.getUint32(at + 4, true);
      return {
        message: Uint8Array.from({ length }, (__, n) => this.#actions.getUint8(at + 8 + n)),
      };
    });
  }
}

// performance.now() is CLOCK_MONOTONIC with an origin of the thread's own; the offset makes threads and processes comparable.
const offset = calibrate();

/** The offset as the tightest of a few readings tells it: the first ones take long, for they compile. */
function calibrate(): number {
  let best = { width: Number.POSITIVE_INFINITY, offset: 0 };
  for (let n = 0; n < 32; n += 1) {
    const before = performance.now();
    const between = Number(process.hrtime.bigint()) / 1e6;
    const after = performance.now();
    if (after - before < best.width) {
      best = { width: after - before, offset: between - (before + after) / 2 };
    }
  }
  return best.offset;
}
const nowMilliseconds = (): number => performance.now() + offset;
/** CLOCK_MONOTONIC in microseconds, without allocating a BigInt. */
export const nowMicros = (): number => nowMilliseconds() * 1000;
