// The collector threads of a pool: one for sources that never wait, one for those that may. A watchdog replaces a thread that is stuck in
// a source: the others of its lane go on in a new thread, the stuck one is tried again later, and at last left out.
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { type AssessmentRecord, expectedEntropy } from './assessment/record.ts';
import type { CollectionNews } from './collection.ts';
import type { TaskSource } from './collector.ts';
import { CollectorThread } from './collector-thread.ts';
import { type Lane, lanes, ringCapacity, SampleRings } from './rings.ts';
import type { SourceSettings } from './source.ts';

export interface LaneOptions {
  readonly arena: SecretArena;
  /** In ring order. */
  readonly sources: readonly (TaskSource & { readonly lane: Lane })[];
  readonly settings: SourceSettings;
  readonly onAssessed: (index: number, record: AssessmentRecord) => void;
  readonly onFailed: (index: number, why: string) => void;
  readonly patience?: Patience;
}

/** All in milliseconds. */
export interface Patience {
  /** A turn that takes longer is stuck. */
  readonly stuck?: number;
  /** Before a stuck source is tried again; each further time twice as long. */
  readonly stuckRetry?: number;
  readonly retry?: number;
  readonly silence?: number;
}

const mostBlocks = 3;

interface Blocked {
  times: number;
  /** Left out of its lane's thread. */
  excluded: boolean;
  /** `performance.now()`; Infinity: never. */
  retryAt: number;
}

export class Lanes {
  readonly rings: SampleRings;
  readonly #options: LaneOptions;
  readonly #memory: SecretBuffer;
  readonly #shared: SharedArrayBuffer;
  readonly #threads = new Map<Lane, CollectorThread>();
  /** Superseded, and perhaps stuck in a source. */
  readonly #aside = new Set<CollectorThread>();
  /** Back from there. */
  readonly #spare = new Set<CollectorThread>();
  /** To be collected from anew. */
  readonly #stale = new Set<Lane>();
  /** What the health tests are to expect of a source, as a brief assessment found: it is not assessed again. */
  readonly #expected = new Map<number, number>();
  readonly #lostLanes = new Map<Lane, string>();
  readonly #why = new Map<number, string>();
  readonly #blocked = new Map<number, Blocked>();

  constructor(options: LaneOptions) {
    const { arena, sources } = options;
    this.#options = options;
    this.#memory = arena.take(Math.max(1, sources.length) * ringCapacity, 'raw noise samples');
    this.#shared = SampleRings.share(sources.length);
    this.rings = new SampleRings(this.#memory.bytes, this.#shared);
  }

  /** Starts the thread of a lane that has sources and none yet. */
  start(lane: Lane): void {
    if (this.#threads.has(lane) || this.#lostLanes.has(lane) || this.rings.stopped) return;
    this.#collect(lane);
  }

  /** Why a source is not collected from, where it is known. */
  why(index: number): string | undefined {
    const lane = this.#options.sources[index]?.lane;
    return (lane === undefined ? undefined : this.#lostLanes.get(lane)) ?? this.#why.get(index);
  }

  /** The thread of its lane is gone. */
  isLost(index: number): boolean {
    const lane = this.#options.sources[index]?.lane;
    return lane !== undefined && this.#lostLanes.has(lane);
  }

  /** Why nothing is collected any more at all; undefined while any lane that has sources works or is still to start. */
  get lost(): string | undefined {
    const used = lanes.filter((lane) => this.#options.sources.some((source) => source.lane === lane));
    return used.every((lane) => this.#lostLanes.has(lane))
      ? this.#lostLanes.values().next().value
      : undefined;
  }

  restart(index: number): void {
    if (this.#blocked.delete(index)) this.#tryAgain(index);
    else this.rings.restart(index);
  }

  /** The watchdog; call it about once a second. */
  check(): void {
    const { stuck = 5000, stuckRetry = 60_000 } = this.#options.patience ?? {};
    if (this.rings.stopped) return;
    if (this.#options.arena.zeroized) {
      for (const thread of this.#spare) void thread.end();
      this.#spare.clear();
      return;
    }
    for (const lane of lanes) {
      const turn = this.rings.turnUnderWay(lane);
      if (turn === undefined || turn.milliseconds < stuck) continue;
      // A thread that is superseded may still have noted down a turn.
      if (this.#blocked.get(turn.source)?.excluded === true) continue;
      const times = (this.#blocked.get(turn.source)?.times ?? 0) + 1;
      const retryAt =
        times < mostBlocks ? performance.now() + stuckRetry * 2 ** (times - 1) : Number.POSITIVE_INFINITY;
      this.#blocked.set(turn.source, { times, excluded: true, retryAt });
      this.#collect(lane);
      this.#isolate(turn.source, `it has not answered for ${(stuck / 1000).toFixed(1)} s`);
    }
    for (const [index, blocked] of this.#blocked) {
      if (!blocked.excluded || performance.now() < blocked.retryAt) continue;
      blocked.excluded = false;
      this.#tryAgain(index);
    }
  }

  /** Resolves when all threads have ended, or have been given up, and their samples are wiped. */
  async end(): Promise<void> {
    this.rings.stop();
    const threads = [...this.#threads.values(), ...this.#aside, ...this.#spare];
    await Promise.all(threads.map((thread) => thread.end()));
    this.#memory[Symbol.dispose]();
  }

  #laneOf(index: number): Lane {
    return this.#options.sources[index]?.lane ?? 'patient';
  }

  /** By another thread, which takes over what is known of the sources: so not as expelled. */
  #tryAgain(index: number): void {
    this.rings.report(index, 'starting', this.rings.failures(index), 0);
    this.#renew(this.#laneOf(index));
  }

  /** Once for all that changes in this moment. */
  #renew(lane: Lane): void {
    if (this.#stale.size === 0) {
      queueMicrotask(() => {
        const stale = [...this.#stale];
        this.#stale.clear();
        for (const one of stale) this.#collect(one);
      });
    }
    this.#stale.add(lane);
  }

  /**
   * From all sources of the lane that are not left out, as they are now. By another thread than before: nobody can tell whether that one is
   * just about to be stuck.
   */
  #collect(lane: Lane): void {
    const { sources, patience } = this.#options;
    if (this.rings.stopped || this.#lostLanes.has(lane)) return;
    const epoch = this.rings.supersede(lane);
    const before = this.#threads.get(lane);
    if (before !== undefined) this.#aside.add(before);
    this.#threads.delete(lane);
    const mine = sources.filter(
      (source) => source.lane === lane && this.#blocked.get(source.index)?.excluded !== true,
    );
    if (mine.length === 0) return;
    const thread = this.#spareThread() ?? this.#newThread();
    this.#threads.set(lane, thread);
    thread.collect({
      lane,
      epoch,
      sources: mine.map((source) => this.#taskOf(source)),
      ...(patience?.retry === undefined ? {} : { retryMilliseconds: patience.retry }),
      ...(patience?.silence === undefined ? {} : { silenceMilliseconds: patience.silence }),
    });
  }

  #spareThread(): CollectorThread | undefined {
    const [thread] = this.#spare;
    if (thread !== undefined) this.#spare.delete(thread);
    return thread;
  }

  #newThread(): CollectorThread {
    const { arena, sources, settings } = this.#options;
    const thread: CollectorThread = new CollectorThread(
      { arena, memory: this.#memory, shared: this.#shared, mostSources: sources.length, settings },
      {
        news: (news) => this.#hear(news),
        free: () => {
          if (this.#aside.delete(thread)) this.#spare.add(thread);
        },
        lost: (why) => {
          this.#aside.delete(thread);
          this.#spare.delete(thread);
          for (const [lane, serving] of this.#threads) if (serving === thread) this.#lostLanes.set(lane, why);
        },
      },
    );
    return thread;
  }

  #taskOf({ lane: _, assessFor, ...source }: LaneOptions['sources'][number]): TaskSource {
    const expected = this.#expected.get(source.index);
    if (expected !== undefined) return { ...source, expected };
    return assessFor === undefined ? source : { ...source, assessFor };
  }

  #hear(news: CollectionNews): void {
    if (news.kind === 'assessed') {
      const { assessFor } = this.#options.sources.find(({ index }) => index === news.index) ?? {};
      if (assessFor !== undefined) this.#expected.set(news.index, expectedEntropy(assessFor, news.record));
      this.#options.onAssessed(news.index, news.record);
      return;
    }
    this.#why.set(news.index, news.why);
    this.#options.onFailed(news.index, news.why);
  }

  #isolate(index: number, why: string): void {
    this.#why.set(index, why);
    this.rings.discard(index);
    this.rings.report(index, 'expelled', this.rings.failures(index) + 1, 0);
    this.#options.onFailed(index, why);
  }
}
