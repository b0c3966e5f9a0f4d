// One collector's work: every source in turn, noise -> health tests -> ring. A source that fails is isolated while the others go on,
// opened again after a pause, and at last expelled.
import { alignment } from '../host/arena.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import type { AssessmentRecord } from './assessment/record.ts';
import { HealthTests } from './health.ts';
import { lags } from './lag-test.ts';
import { rehearse } from './rehearsal.ts';
import type { Lane, SampleRings } from './rings.ts';
import type { NoiseSource, Sampler } from './source.ts';

/** Most samples that a source is asked for at a time; also what a start-up test needs. */
const turnLength = 1024;
const idleTurnLength = 128;

/** Bytes that a collection of so many sources works in: a turn, and the last samples of each, which its health tests keep. Whole
 * steps of the arena, which gives no parts of them. */
export const scratchLength = (sources: number): number =>
  turnLength + alignment * Math.ceil((lags * sources) / alignment);

export interface CollectedSource {
  readonly source: NoiseSource;
  /** Its ring. */
  readonly index: number;
  /** Min-entropy in bits per sample that the health tests expect at least. */
  readonly expected: number;
  /** The samples in its ring that are enough for now. */
  readonly level: number;
  /** Has not been assessed on this machine: what a brief assessment finds, and what the health tests are to expect then. */
  readonly assess?: (goOn: () => void) => { readonly record: AssessmentRecord; readonly expected: number };
}

/** What a collection tells its owner. */
export type CollectionNews =
  | { readonly kind: 'failed'; readonly index: number; readonly why: string }
  | { readonly kind: 'assessed'; readonly index: number; readonly record: AssessmentRecord };

export interface CollectionOptions {
  readonly rings: SampleRings;
  /** `scratchLength` bytes in the arena. */
  readonly scratch: Uint8Array;
  readonly lane: Lane;
  /** Of the lane: when it has another one, another thread serves it. */
  readonly epoch: number;
  readonly tell: (news: CollectionNews) => void;
  /** Before the second try of a source that failed; each further pause is twice as long. */
  readonly retryMilliseconds?: number;
  /** A source that delivers nothing for so long counts as failed. */
  readonly silenceMilliseconds?: number;
}

/** A source that failed so often, without a good minute in between, is expelled. */
const mostFailures = 5;
const goodMilliseconds = 60_000;

/** An assessment takes as long as many turns: those that are done with theirs make the first seed meanwhile, and more of it then. */
const roundsPerAssessment = { unseeded: 32, seeded: 8 } as const;

interface Post extends CollectedSource {
  tests: HealthTests;
  /** In the arena: the last samples of the tests. */
  readonly history: Uint8Array;
  sampler: Sampler | undefined;
  turns: number;
  unassessed: boolean;
  /** Had nothing to say at its last turn. */
  quiet: boolean;
  /** Failures since the last good minute. */
  recent: number;
  /** `performance.now()`: nothing is asked before it. */
  resting: number;
  lastDelivery: number;
  lastFailure: number;
}

export class Collection implements Disposable {
  readonly #posts: Post[];
  readonly #turnMemory: Uint8Array;
  readonly #options: CollectionOptions;
  #rounds = 0;

  /** Sources are opened at their first turn. */
  constructor(sources: readonly CollectedSource[], options: CollectionOptions) {
    const now = performance.now();
    this.#turnMemory = options.scratch.subarray(0, turnLength);
    const histories = sources.map((_, n) =>
      options.scratch.subarray(turnLength + lags * n).subarray(0, lags),
    );
    if (options.scratch.length < scratchLength(sources.length))
      throw new RangeError('the scratch is too small');
    this.#posts = sources.map((source, n) => ({
      ...source,
      ...testing(source.expected, histories[n] ?? new Uint8Array(0)),
      sampler: undefined,
      turns: 0,
      unassessed: source.assess !== undefined,
      quiet: false,
      recent: 0,
      resting: 0,
      lastDelivery: now,
      lastFailure: now,
    }));
    for (const post of this.#posts) takeOver(post, options.rings);
    this.#options = options;
  }

  /** Another thread serves the lane: this one must not touch a ring any more. */
  get superseded(): boolean {
    const { rings, lane, epoch } = this.#options;
    return rings.epoch(lane) !== epoch;
  }

  /**
   * Gives a turn to each source that is being tested or whose ring is low. Returns whether there was one; if not, every
   * ring is well filled.
   */
  round(): boolean {
    let worked = false;
    this.#rounds += 1;
    const rounds = roundsPerAssessment[this.#options.rings.seeded ? 'seeded' : 'unseeded'];
    let mayAssess = this.#rounds % rounds === 1;
    for (const post of this.#posts) {
      if (this.#options.rings.takeRestart(post.index)) restart(post);
      if (!this.#wanted(post)) continue;
      if (post.unassessed) {
        worked = true;
        if (!mayAssess) continue;
        mayAssess = false;
      }
      if (!this.#turn(post, this.#turnMemory)) return worked;
      worked = true;
    }
    return worked;
  }

  /** Gives every source a short turn, so that its health tests go on although its ring is filled. */
  idleRound(): void {
    const short = this.#turnMemory.subarray(0, idleTurnLength);
    for (const post of this.#posts) {
      if (post.unassessed || post.tests.state === 'expelled' || performance.now() < post.resting) continue;
      if (!this.#turn(post, short)) return;
    }
  }

  /** A pause of the collection is nobody's silence. */
  forgivePause(): void {
    for (const post of this.#posts) post.lastDelivery = performance.now();
  }

  [Symbol.dispose](): void {
    for (const post of this.#posts) release(post);
    this.#options.scratch.fill(0);
  }

  #wanted(post: Post): boolean {
    const { rings } = this.#options;
    if (post.tests.state === 'expelled' || performance.now() < post.resting) return false;
    // One that has nothing to say just now is asked in the idle rounds.
    if (post.quiet) return false;
    return post.tests.state !== 'healthy' || !rings.seeded || rings.available(post.index) < post.level;
  }

  /** False when this thread is superseded. */
  #turn(post: Post, scratch: Uint8Array): boolean {
    const { rings, lane } = this.#options;
    rings.beginTurn(lane, post.index);
    let taken = 0;
    let failed = false;
    try {
      if (post.unassessed) this.#assess(post);
      taken = this.#sample(post, scratch);
    } catch (error) {
      if (this.superseded || rings.stopped) return false;
      if (isInterruption(error)) return this.#endTurn();
      failed = true;
      this.#failed(post, reasonOf(error));
    }
    // Once told to stop, its owner waits for a while only, and then gives the memory of the rings to others.
    if (this.superseded || rings.stopped) return false;
    this.#endTurn();
    this.#judge(post, scratch.subarray(0, taken));
    post.turns += 1;
    post.quiet = taken === 0 && !failed;
    rings.report(post.index, post.tests.state, post.tests.failures, taken);
    return true;
  }

  #endTurn(): boolean {
    this.#options.rings.endTurn(this.#options.lane);
    return true;
  }

  #assess(post: Post): void {
    const { rings, lane } = this.#options;
    const found = post.assess?.(() => {
      if (this.superseded || rings.stopped || rings.paused)
        throw new Failure('assessment-interrupted', 'it was interrupted');
      rings.beginTurn(lane, post.index); // It takes its time, and is not stuck.
    });
    post.unassessed = false;
    if (found === undefined || this.superseded) return;
    const { failures } = post.tests;
    post.tests = testing(found.expected, post.history).tests;
    post.tests.failures = failures;
    this.#options.tell({ kind: 'assessed', index: post.index, record: found.record });
  }

  #sample(post: Post, scratch: Uint8Array): number {
    post.sampler ??= post.source.open();
    const failure = this.#options.rings.inducedFailure(post.index);
    const taken =
      failure === undefined
        ? post.sampler.sample(scratch)
        : rehearse(
            failure,
            post.sampler,
            scratch,
            post.turns,
            () => this.superseded || this.#options.rings.stopped,
          );
    if (Number.isInteger(taken) && taken >= 0 && taken <= scratch.length) return taken;
    throw new Failure('source-flooded', `it claims ${taken} samples where ${scratch.length} fit`);
  }

  #judge(post: Post, samples: Uint8Array): void {
    const { rings, silenceMilliseconds = 10_000 } = this.#options;
    const now = performance.now();
    if (samples.length > 0) post.lastDelivery = now;
    else if (post.tests.state === 'healthy' && now - post.lastDelivery > silenceMilliseconds) {
      // Silence is no alarm: what comes next is tested as at the start, as often as it happens.
      post.tests.fail();
      rings.discard(post.index);
      this.#tellFailure(post, 'it has fallen silent');
    }
    const before = post.tests.failures;
    const usable = post.tests.accept(samples);
    if (post.tests.failures > before) {
      rings.discard(post.index);
      this.#count(post, `the ${post.tests.lastAlarm ?? ''} test raised an alarm`);
    }
    if (usable > 0) rings.push(post.index, samples.subarray(samples.length - usable));
    if (now - post.lastFailure > goodMilliseconds) post.recent = 0;
  }

  /** It could not be opened or read: closed, and opened again after a pause. */
  #failed(post: Post, why: string): void {
    const { rings, retryMilliseconds = 1000 } = this.#options;
    release(post);
    rings.discard(post.index);
    if (post.tests.state === 'expelled') return;
    post.tests.fail();
    post.resting = performance.now() + retryMilliseconds * 2 ** post.recent;
    this.#count(post, why);
  }

  #count(post: Post, why: string): void {
    post.recent += 1;
    post.lastFailure = performance.now();
    if (post.recent >= mostFailures) post.tests.expel();
    if (post.tests.state === 'expelled') release(post);
    this.#tellFailure(post, why);
  }

  #tellFailure(post: Post, why: string): void {
    this.#options.tell({ kind: 'failed', index: post.index, why });
  }
}

const isInterruption = (error: unknown): boolean =>
  error instanceof Failure && error.code === 'assessment-interrupted';

const testing = (expected: number, history: Uint8Array): Pick<Post, 'tests' | 'history'> => ({
  tests: new HealthTests(expected, { history }),
  history,
});

/** What the thread before this one found holds on: what it expelled is not asked, and the failures are counted on. */
function takeOver({ index, tests }: Post, rings: SampleRings): void {
  if (rings.state(index) === 'expelled') tests.expel();
  tests.failures = rings.failures(index);
}

function restart(post: Post): void {
  post.tests.restart();
  post.recent = 0;
  post.resting = 0;
  post.quiet = false;
  post.lastDelivery = performance.now();
}

function release(post: Post): void {
  try {
    post.sampler?.[Symbol.dispose]();
  } catch {
    // It is broken anyway.
  }
  post.sampler = undefined;
}
