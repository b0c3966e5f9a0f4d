// The owner's side of one collector thread: starts it, hands on what it tells, ends it. A thread that is stuck in a source is given up:
// it may never come back, so what it could still write to is never used again.
import { Worker } from 'node:worker_threads';
import type { ArenaRegion, SecretArena, SecretBuffer } from '../host/arena.ts';
import { reasonOf } from '../host/failure.ts';
import { type CollectionNews, scratchLength } from './collection.ts';
import type { CollectorTask } from './collector.ts';

const stopMilliseconds = 5000;

export interface ThreadEvents {
  readonly news: (news: CollectionNews) => void;
  /** It has ended although nobody told it to. */
  readonly lost: (why: string) => void;
}

export class CollectorThread {
  readonly #scratch: SecretBuffer;
  readonly #ended: Promise<void>;
  #expected = false;

  constructor(arena: SecretArena, task: Omit<CollectorTask, 'scratch'>, events: ThreadEvents) {
    this.#scratch = arena.take(scratchLength(task.sources.length), 'raw noise samples');
    const { address, byteLength } = this.#scratch;
    const scratch: ArenaRegion = { address, byteLength, control: arena.region.control };
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const worker = new Worker(new URL(`./collector.${extension}`, import.meta.url), {
      name: `entropy-${task.lane}`,
      workerData: { ...task, scratch } satisfies CollectorTask,
      execArgv: [],
    });
    worker.unref();
    worker.on('message', events.news);
    worker.on('error', (error) => {
      if (!this.#expected) events.lost(`a collector thread failed: ${reasonOf(error)}`);
      this.#expected = true;
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    worker.once('exit', () => {
      if (!this.#expected && !arena.zeroized) events.lost('a collector thread has ended');
      this.#scratch[Symbol.dispose]();
      resolve();
    });
  }

  /** Its end is nobody's loss from now on. */
  dismiss(): void {
    this.#expected = true;
  }

  /** Resolves when the thread has ended by itself, and its memory is given back. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /**
   * Resolves when the thread has ended, or has been given up. The caller has told it to stop. It is never terminated: in the middle of
   * a native call that would abort the whole process.
   */
  async end(): Promise<void> {
    this.dismiss();
    const { promise: givenUp, resolve } = Promise.withResolvers<void>();
    const impatient = setTimeout(resolve, stopMilliseconds);
    await Promise.race([this.#ended, givenUp]);
    clearTimeout(impatient);
  }
}
