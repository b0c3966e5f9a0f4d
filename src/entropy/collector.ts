// A collector thread: runs the collection of one lane at full speed until the first seed is made, then at a bounded share of one
// core, then, with its rings full, a short round a second that keeps the health tests going.
import { parentPort, workerData } from 'node:worker_threads';
import { type ArenaRegion, SecretArena } from '../host/arena.ts';
import { examineBriefly } from './assessment/examine.ts';
import { expectedEntropy } from './assessment/record.ts';
import { noiseSources } from './catalogue.ts';
import { type CollectedSource, Collection, type CollectionNews } from './collection.ts';
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

/** What the pool hands to this thread. */
export interface CollectorTask {
  readonly lane: Lane;
  /** All rings; and the scratch of this thread alone. */
  readonly memory: ArenaRegion;
  readonly scratch: ArenaRegion;
  readonly shared: SharedArrayBuffer;
  readonly sources: readonly TaskSource[];
  readonly settings: SourceSettings;
  readonly retryMilliseconds?: number;
  readonly silenceMilliseconds?: number;
}

/** After the first seed, milliseconds of rest for each of work. */
const restPerWork = 2;
const idleMilliseconds = 1000;
const pausedMilliseconds = 1000;

if (parentPort !== null) collect(workerData as CollectorTask);

function collect(task: CollectorTask): void {
  const arena = SecretArena.attach(task.memory);
  // Not disposed of here: the rings outlive this thread, and their owner wipes them.
  const memory = arena.take(task.memory.byteLength, 'raw noise samples');
  using scratch = SecretArena.attach(task.scratch).take(task.scratch.byteLength, 'raw noise samples');
  const rings = new SampleRings(memory.bytes, task.shared);
  using collection = new Collection(collected(task), {
    rings,
    scratch: scratch.bytes,
    lane: task.lane,
    tell: (news: CollectionNews) => parentPort?.postMessage(news),
    ...(task.retryMilliseconds === undefined ? {} : { retryMilliseconds: task.retryMilliseconds }),
    ...(task.silenceMilliseconds === undefined ? {} : { silenceMilliseconds: task.silenceMilliseconds }),
  });
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

function collected(task: CollectorTask): CollectedSource[] {
  const known = new Map(noiseSources(task.settings).map((source) => [source.name, source]));
  return task.sources.flatMap(({ name, index, expected, level, assessFor }) => {
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
