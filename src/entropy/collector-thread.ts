// The owner's side of one collector thread: starts it, gives it one collection after the other, ends it. A thread that is stuck in a
// source is put aside: it may never come back. If it does, it serves again, for a thread that ends leaves memory behind.
import type { Worker } from 'node:worker_threads';
import type { ArenaRegion, SecretArena, SecretBuffer } from '../host/arena.ts';
import { reasonOf } from '../host/failure.ts';
import { type CollectionNews, scratchLength } from './collection.ts';
import type { CollectorNews, CollectorPlace, CollectorTask } from './collector.ts';
import { collectorWorker } from './collector-worker.ts';
import type { SourceSettings } from './source.ts';

const stopMilliseconds = 5000;

export interface ThreadPlace {
  readonly arena: SecretArena;
  /** In it: all rings. */
  readonly memory: SecretBuffer;
  readonly shared: SharedArrayBuffer;
  /** Most sources that it will ever collect from at a time. */
  readonly mostSources: number;
  readonly settings: SourceSettings;
}

export interface ThreadEvents {
  readonly news: (news: CollectionNews) => void;
  /** Its last collection has ended: it is free. */
  readonly free: () => void;
  /** It has ended although nobody told it to. */
  readonly lost: (why: string) => void;
}

export class CollectorThread {
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  #tasks = 0;
  #expected = false;

  constructor({ arena, memory, shared, mostSources, settings }: ThreadPlace, events: ThreadEvents) {
    const scratch = arena.take(scratchLength(mostSources), 'raw noise samples');
    const region = ({ address, byteLength }: SecretBuffer): ArenaRegion => ({
      address,
      byteLength,
      control: arena.region.control,
    });
    this.#worker = collectorWorker();
    this.#worker.postMessage({
      memory: region(memory),
      scratch: region(scratch),
      shared,
      settings,
    } satisfies CollectorPlace);
    this.#worker.on('message', (news: CollectorNews) => {
      if (news.kind !== 'done') events.news(news);
      else {
        this.#tasks -= 1;
        if (this.#tasks === 0) events.free();
      }
    });
    this.#worker.on('error', (error) => {
      if (!this.#expected) events.lost(`a collector thread failed: ${reasonOf(error)}`);
      this.#expected = true;
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    this.#worker.once('exit', () => {
      if (!this.#expected && !arena.zeroized) events.lost('a collector thread has ended');
      scratch[Symbol.dispose]();
      resolve();
    });
  }

  /** Begins when the collection before it has ended. */
  collect(task: CollectorTask): void {
    this.#tasks += 1;
    this.#worker.postMessage(task);
  }

  /**
   * Resolves when the thread has ended, or has been given up. The caller has told its collection to stop. It is never terminated: in the
   * middle of a native call that would abort the whole process.
   */
  async end(): Promise<void> {
    this.#expected = true;
    this.#worker.postMessage(null);
    const { promise: givenUp, resolve } = Promise.withResolvers<void>();
    const impatient = setTimeout(resolve, stopMilliseconds);
    await Promise.race([this.#ended, givenUp]);
    clearTimeout(impatient);
  }
}
