// A collector thread: runs the collections that it is given, each of one lane, at full speed until the first seed is made, then at a
// bounded share of one core, then, with its rings full, a short round a second that keeps the health tests going.
import { type MessagePort, parentPort } from 'node:worker_threads';
import { type ArenaRegion, SecretArena } from '../host/arena.ts';
import { examineBriefly } from './assessment/examine.ts';
import { expectedEntropy } from './assessment/record.ts';
import { noiseSources } from './catalogue.ts';
import {
  type CollectedSource,
  Collection,
  type CollectionNews,
  type CollectionOptions,
} from './collection.ts';
import type { SourceCredit } from './credit.ts';
import { type Lane, SampleRings } from './rings.ts';
import type { SourceSettings } from './source.ts';

export interface TaskSource {
  readonly name: string;
  /** Its ring. */
  readonly index: number;
  readonly expected: number;
  readonly level: number;
  /** Given where the source is to be assessed before its first turn. */
  readonly assessFor?: SourceCredit;
}

/** What the pool hands to this thread for its life; null where no pool came about. */
export interface CollectorPlace {
  /** All rings; and the scratch of this thread alone. */
  readonly memory: ArenaRegion;
  readonly scratch: ArenaRegion;
  readonly shared: SharedArrayBuffer;
  readonly settings: SourceSettings;
}

/** One collection after the other; null ends the thread. */
export interface CollectorTask {
  readonly lane: Lane;
  /** While it is the lane's. */
  readonly epoch: number;
  readonly sources: readonly TaskSource[];
  readonly retryMilliseconds?: number;
  readonly silenceMilliseconds?: number;
}

/** `done`: the collection has ended. */
export type CollectorNews = CollectionNews | { readonly kind: 'done' };

/** After the first seed, milliseconds of rest for each of work. */
const restPerWork = 2;
const idleMilliseconds = 1000;
const pausedMilliseconds = 1000;

if (parentPort !== null) {
  const port = parentPort;
  port.once('message', (place: CollectorPlace | null) => {
    if (place === null) port.close();
    else serve(port, place);
  });
}

function serve(port: MessagePort, place: CollectorPlace): void {
  const arena = SecretArena.attach(place.memory);
  // Not disposed of here: the rings outlive this thread, and their owner wipes them.
  const memory = arena.take(place.memory.byteLength, 'raw noise samples');
  const scratch = SecretArena.attach(place.scratch).take(place.scratch.byteLength, 'raw noise samples');
  const rings = new SampleRings(memory.bytes, place.shared);
  const tell = (news: CollectorNews) => port.postMessage(news);
  port.on('message', (task: CollectorTask | null) => {
    if (task !== null) {
      collect(task, place.settings, { rings, scratch: scratch.bytes, tell }, arena);
      tell({ kind: 'done' });
      // After a zeroize the thread ends, and what its heap still knows goes with it.
      if (!arena.zeroized) return;
    }
    scratch[Symbol.dispose]();
    port.close();
  });
}

function collect(
  { sources, ...options }: CollectorTask,
  settings: SourceSettings,
  means: Pick<CollectionOptions, 'rings' | 'scratch' | 'tell'>,
  arena: SecretArena,
): void {
  const { rings } = means;
  using collection = new Collection(collected(sources, settings), { ...options, ...means });
  while (!rings.stopped && !arena.zeroized && !collection.superseded) {
    if (rings.paused) {
      rings.rest(pausedMilliseconds);
      collection.forgivePause();
      continue;
    }
    const begun = performance.now();
    if (!collection.round()) {
      collection.idleRound();
      rings.rest(idleMilliseconds);
    } else if (rings.seeded) rings.rest(restPerWork * (performance.now() - begun));
  }
}

function collected(sources: readonly TaskSource[], settings: SourceSettings): CollectedSource[] {
  const known = new Map(noiseSources(settings).map((source) => [source.name, source]));
  return sources.flatMap(({ name, index, expected, level, assessFor }) => {
    const source = known.get(name);
    if (source === undefined) return [];
    const assess = (policy: SourceCredit, goOn: () => void) => {
      const record = examineBriefly(source, policy.credit, goOn);
      return { record, expected: expectedEntropy(policy, record) };
    };
    return [
      {
        source,
        index,
        expected,
        level,
        ...(assessFor === undefined ? {} : { assess: (goOn: () => void) => assess(assessFor, goOn) }),
      },
    ];
  });
}
