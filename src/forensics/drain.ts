// Takes what a collector gives, in whatever time and pieces it comes, and leads it on.
import { reasonOf } from '../host/failure.ts';
import { GrowingBytes } from '../host/growing-bytes.ts';
import type { CollectorOutcome } from './format.ts';

export type Chunks = AsyncIterable<Uint8Array | string, unknown>;

/** Of a collector. */
interface Source {
  readonly limitBytes: number;
  gather(signal: AbortSignal, room?: number): Promise<Uint8Array | string> | Chunks;
}

/** The way of every byte from a collector to its member. All are false where the member has no room for more. */
export interface Way {
  feed(bytes: Uint8Array): boolean;
  /** What was held back goes out; what is fed next is another text. */
  settle(): boolean;
  /** When more may be fed. */
  ready(): Promise<boolean>;
  /** When all that was fed is at its end. */
  done(): Promise<boolean>;
}

interface Drained {
  readonly status: CollectorOutcome['status'];
  readonly problem?: string;
  /** At its limit. */
  readonly isCut: boolean;
}

/** Few, for meanwhile the thread does nothing else. */
const fedBytes = 1 << 17;

/**
 * Takes what the collector gives until its end, its limit, its failure or the end of its time, or until the way has no room for more. It
 * is led on in pieces of one length, in however many it comes, so that the same always becomes the same.
 */
export async function drain(
  collector: Source,
  timeoutMilliseconds: number,
  room: number | undefined,
  way: Way,
): Promise<Drained> {
  const timeUp = new AbortController();
  const limit = timeLimit(timeoutMilliseconds);
  const pending = new GrowingBytes();
  let left = collector.limitBytes;
  let problem: string | undefined;
  let status: CollectorOutcome['status'] = 'ok';
  let full = false;
  let isCut = false;
  const feedPending = (): boolean => {
    try {
      return way.feed(pending.view);
    } finally {
      pending.drop(pending.length);
    }
  };
  const lead = async (bytes: Uint8Array): Promise<void> => {
    for (let at = 0; at < bytes.length && !full; ) {
      const end = Math.min(bytes.length, at + fedBytes - pending.length);
      // A piece that came whole, when nothing waits, is led on from where it is.
      const isWhole = end - at === fedBytes;
      if (!isWhole) pending.copy(bytes, at, end);
      if (isWhole || pending.length === fedBytes) {
        const fed = isWhole ? way.feed(bytes.subarray(at, end)) : feedPending();
        full = !(fed && (await way.ready()));
      }
      at = end;
    }
  };
  const iterator = chunksOf(collector, timeUp.signal, room);
  try {
    for (;;) {
      const step = await limit.within(iterator.next());
      if (step === undefined) throw new Error(`it did not end within ${timeoutMilliseconds} ms`);
      if (step.done) {
        if (typeof step.value === 'string') {
          status = 'truncated';
          problem = step.value;
        }
        break;
      }
      const chunk = typeof step.value === 'string' ? Buffer.from(step.value) : step.value;
      const part = chunk.subarray(0, left);
      left -= part.length;
      await lead(part);
      isCut = part.length < chunk.length;
      if (!full && !isCut) continue;
      if (isCut) {
        status = 'truncated';
        problem = `It was cut off at its limit of ${collector.limitBytes} bytes.`;
      }
      break;
    }
  } catch (error) {
    status = 'failed';
    problem = failure(error);
  } finally {
    timeUp.abort();
    limit.end();
    void iterator.return(undefined).catch(() => undefined); // It lets go of what it holds, whatever it was that ended it.
  }
  // Also of one that failed: what it gave is kept. Whatever happens, nothing is written any more behind this.
  for (const rest of [feedPending, way.settle, way.done]) {
    try {
      if (!full || rest === way.done) full = !(await rest()) || full;
    } catch (error) {
      status = 'failed';
      problem ??= failure(error);
    }
  }
  if (full) return { status: 'truncated', problem: noRoom, isCut: false };
  if (status === 'ok' && left === collector.limitBytes) status = 'empty';
  return problem === undefined ? { status, isCut } : { status, problem, isCut };
}

/**
 * Waits for one thing after the other, until the time is up: then there is nothing. `Promise.race` with one timer would hold what came
 * of every race until then, which here is all that was collected.
 */
function timeLimit(milliseconds: number): {
  within<T>(next: Promise<T>): Promise<T | undefined>;
  end(): void;
} {
  let isUp = false;
  let giveUp = (): void => {};
  const timer = setTimeout(() => {
    isUp = true;
    giveUp();
  }, milliseconds);
  return {
    within: (next) =>
      new Promise((resolve, reject) => {
        giveUp = () => resolve(undefined);
        next.then(resolve, reject);
        if (isUp) giveUp();
      }),
    end: () => clearTimeout(timer),
  };
}

const failure = (error: unknown): string => `It failed: ${reasonOf(error)}`.replace(/\.?$/, '.');

const noRoom = 'It was cut off because the disk is nearly full.';

async function* chunksOf(
  collector: Source,
  signal: AbortSignal,
  room: number | undefined,
): AsyncGenerator<Uint8Array | string, unknown> {
  const given = collector.gather(signal, room);
  if (Symbol.asyncIterator in given) return yield* given;
  yield await given;
}
