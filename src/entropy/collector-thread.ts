// The owner's side of the collector thread: starts it on a region of the arena, hears what it lost, ends it.
import { Worker } from 'node:worker_threads';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { reasonOf } from '../host/failure.ts';
import { collectionLength } from './collection.ts';
import type { CollectorTask, SourceLost } from './collector.ts';
import { ringCapacity, SampleRings } from './rings.ts';

const stopMilliseconds = 2000;

export class CollectorThread implements AsyncDisposable {
  readonly rings: SampleRings;
  readonly #memory: SecretBuffer;
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  readonly #gone = new Map<string, string>();
  #lost: string | undefined;

  constructor(arena: SecretArena, work: Pick<CollectorTask, 'sources' | 'level' | 'directory'>) {
    const { sources } = work;
    this.#memory = arena.take(collectionLength(sources.length), 'raw noise samples');
    const shared = SampleRings.share(sources.length);
    this.rings = new SampleRings(this.#memory.bytes.subarray(0, sources.length * ringCapacity), shared);
    const { address, byteLength } = this.#memory;
    const region = { address, byteLength, control: arena.region.control };
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    this.#worker = new Worker(new URL(`./collector.${extension}`, import.meta.url), {
      name: 'entropy-collector',
      workerData: { region, shared, ...work } satisfies CollectorTask,
      execArgv: [],
    });
    this.#worker.unref();
    this.#worker.on('message', ({ name, why }: SourceLost) => this.#gone.set(name, why));
    this.#worker.on('error', (error) => {
      this.#lost = `the collector thread failed: ${reasonOf(error)}`;
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    this.#worker.once('exit', () => {
      if (!this.rings.stopped && !arena.zeroized) this.#lost ??= 'the collector thread has ended';
      resolve();
    });
  }

  /** Why no source is collected from any more; undefined while the thread runs. */
  get lost(): string | undefined {
    return this.#lost;
  }

  /** Why one source is not collected from any more. */
  whyLost(name: string): string | undefined {
    return this.#lost ?? this.#gone.get(name);
  }

  /** Resolves when the thread has ended and its samples are wiped. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.rings.stop();
    const impatient = setTimeout(() => void this.#worker.terminate(), stopMilliseconds);
    await this.#ended;
    clearTimeout(impatient);
    this.#memory[Symbol.dispose]();
  }
}
