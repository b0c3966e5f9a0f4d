// The collector thread: runs a collection at full speed until the first seed is made, then at a bounded share of one
// core, then, with its rings full, a short round a second that keeps the health tests going.
import { parentPort, workerData } from 'node:worker_threads';
import { type ArenaRegion, SecretArena } from '../host/arena.ts';
import { noiseSources } from './catalogue.ts';
import { Collection } from './collection.ts';
import { ringCapacity, SampleRings } from './rings.ts';

/** What the pool hands to this thread. */
export interface CollectorTask {
  readonly region: ArenaRegion;
  readonly shared: SharedArrayBuffer;
  /** In ring order; `expected` as in `CollectedSource`. */
  readonly sources: readonly { readonly name: string; readonly expected: number }[];
  /** Samples in a ring that are enough for now. */
  readonly level: number;
  readonly directory: string;
}

/** What this thread says to the pool: a source has gone. */
export interface SourceLost {
  readonly name: string;
  readonly why: string;
}

/** After the first seed, milliseconds of rest for each of work. */
const restPerWork = 2;
const idleMilliseconds = 1000;
const pausedMilliseconds = 1000;

if (parentPort !== null) collect(workerData as CollectorTask);

function collect(task: CollectorTask): void {
  const arena = SecretArena.attach(task.region);
  using memory = arena.take(task.region.byteLength, 'raw noise samples');
  const ringsLength = task.sources.length * ringCapacity;
  const rings = new SampleRings(memory.bytes.subarray(0, ringsLength), task.shared);
  const known = noiseSources(task.directory);
  using collection = new Collection(
    task.sources.flatMap(({ name, expected }) =>
      known.filter((source) => source.name === name).map((source) => ({ source, expected })),
    ),
    rings,
    memory.bytes.subarray(ringsLength),
    task.level,
    (name, why) => parentPort?.postMessage({ name, why } satisfies SourceLost),
  );
  while (!rings.stopped && !arena.zeroized) {
    if (rings.paused) {
      rings.rest(pausedMilliseconds);
      continue;
    }
    const begun = performance.now();
    if (!collection.round()) {
      collection.idleRound();
      rings.rest(idleMilliseconds);
    } else if (rings.seeded) rings.rest(restPerWork * (performance.now() - begun));
  }
}
