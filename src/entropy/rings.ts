// What the collector thread and its owner share: a ring of raw samples for each source in the secret arena, and control
// words, states and counters in a SharedArrayBuffer. One producer, one consumer, no locks.
import type { HealthState } from './health.ts';
import { type InducedFailure, inducedFailures } from './rehearsal.ts';

/** Samples that each ring holds; a power of two. */
export const ringCapacity = 8192;

const header = { stop: 0, paused: 1, wake: 2, seeded: 3, lane: 4, length: 16 } as const;
/** Of each lane: the thread that serves it (older ones end), the turn under way (source + 1; 0 for none), when it began. */
const laneWord = { epoch: 0, turn: 1, began: 2, length: 3 } as const;
const word = {
  state: 0,
  head: 1,
  tail: 2,
  valid: 3,
  failures: 4,
  induced: 5,
  restart: 6,
  samples: 8,
} as const;
const wordsPerSource = 16;

const states = ['starting', 'healthy', 'failed', 'expelled'] as const satisfies HealthState[];

const induced = [undefined, ...inducedFailures] as const;

/** Threads that collect: sources that never wait, and those that may. */
export const lanes = ['quick', 'patient'] as const;
export type Lane = (typeof lanes)[number];

/** Both sides construct one over the same memory. `source` is an index in the order that both agreed on. */
export class SampleRings {
  readonly #memory: Uint8Array;
  readonly #words: Int32Array;
  readonly #totals: BigInt64Array;

  /** `memory`: `ringCapacity` bytes a source; `shared`: from `SampleRings.share`. */
  constructor(memory: Uint8Array, shared: SharedArrayBuffer) {
    this.#memory = memory;
    this.#words = new Int32Array(shared);
    this.#totals = new BigInt64Array(shared);
  }

  static share(sources: number): SharedArrayBuffer {
    return new SharedArrayBuffer((header.length + sources * wordsPerSource) * 4);
  }

  // The owner's side.

  stop(): void {
    Atomics.store(this.#words, header.stop, 1);
    this.#wake();
  }

  pause(paused: boolean): void {
    Atomics.store(this.#words, header.paused, paused ? 1 : 0);
    this.#wake();
  }

  /** Tells the collector that the first seed is made, so that it slows down. */
  markSeeded(): void {
    Atomics.store(this.#words, header.seeded, 1);
  }

  induce(source: number, failure: InducedFailure | undefined): void {
    Atomics.store(this.#words, at(source, word.induced), induced.indexOf(failure));
    this.#wake();
  }

  restart(source: number): void {
    Atomics.store(this.#words, at(source, word.restart), 1);
    this.#wake();
  }

  /** Usable samples in the ring. */
  available(source: number): number {
    const tail = this.#validTail(source);
    return (Atomics.load(this.#words, at(source, word.head)) - tail) >>> 0;
  }

  /** Moves the oldest samples to the start of `into`, wiping them in the ring; returns how many. */
  drain(source: number, into: Uint8Array): number {
    const tail = this.#validTail(source);
    const head = Atomics.load(this.#words, at(source, word.head));
    const count = Math.min(into.length, (head - tail) >>> 0);
    for (let i = 0; i < count; i++) {
      const slot = source * ringCapacity + ((tail + i) & (ringCapacity - 1));
      into[i] = this.#memory[slot] ?? 0;
      this.#memory[slot] = 0;
    }
    Atomics.store(this.#words, at(source, word.tail), (tail + count) | 0);
    if (count > 0) this.#wake();
    return count;
  }

  state(source: number): HealthState {
    return states[Atomics.load(this.#words, at(source, word.state))] ?? 'expelled';
  }

  failures(source: number): number {
    return Atomics.load(this.#words, at(source, word.failures));
  }

  /** Raw samples taken since the start, used or not. */
  samples(source: number): number {
    return Number(Atomics.load(this.#totals, at(source, word.samples) / 2));
  }

  /** Which source's turn it is in a lane, and for how many milliseconds; undefined between turns. */
  turnUnderWay(lane: Lane): { readonly source: number; readonly milliseconds: number } | undefined {
    const source = Atomics.load(this.#words, laneAt(lane, laneWord.turn)) - 1;
    if (source < 0) return undefined;
    return {
      source,
      milliseconds: (clockNow() - Atomics.load(this.#words, laneAt(lane, laneWord.began))) | 0,
    };
  }

  /** Makes every thread that serves the lane stop before it touches a ring again; returns the epoch of the next one. */
  supersede(lane: Lane): number {
    Atomics.store(this.#words, laneAt(lane, laneWord.turn), 0);
    const epoch = Atomics.add(this.#words, laneAt(lane, laneWord.epoch), 1) + 1;
    this.#wake();
    return epoch;
  }

  // The collector's side.

  epoch(lane: Lane): number {
    return Atomics.load(this.#words, laneAt(lane, laneWord.epoch));
  }

  beginTurn(lane: Lane, source: number): void {
    Atomics.store(this.#words, laneAt(lane, laneWord.began), clockNow());
    Atomics.store(this.#words, laneAt(lane, laneWord.turn), source + 1);
  }

  endTurn(lane: Lane): void {
    Atomics.store(this.#words, laneAt(lane, laneWord.turn), 0);
  }

  get stopped(): boolean {
    return Atomics.load(this.#words, header.stop) !== 0;
  }

  get paused(): boolean {
    return Atomics.load(this.#words, header.paused) !== 0;
  }

  get seeded(): boolean {
    return Atomics.load(this.#words, header.seeded) !== 0;
  }

  inducedFailure(source: number): InducedFailure | undefined {
    return induced[Atomics.load(this.#words, at(source, word.induced))];
  }

  /** True once after each `restart`. */
  takeRestart(source: number): boolean {
    return Atomics.exchange(this.#words, at(source, word.restart), 0) !== 0;
  }

  /** Appends what fits, drops the rest. All of it where another thread has appended meanwhile: one that was superseded just now may be here. */
  push(source: number, samples: Uint8Array): void {
    const head = Atomics.load(this.#words, at(source, word.head));
    const tail = Atomics.load(this.#words, at(source, word.tail));
    const count = Math.min(samples.length, ringCapacity - ((head - tail) >>> 0));
    for (let i = 0; i < count; i++) {
      this.#memory[source * ringCapacity + ((head + i) & (ringCapacity - 1))] = samples[i] ?? 0;
    }
    Atomics.compareExchange(this.#words, at(source, word.head), head, (head + count) | 0);
  }

  /** Makes what is in the ring unusable: an alarm casts doubt on the samples before it. */
  discard(source: number): void {
    Atomics.store(this.#words, at(source, word.valid), Atomics.load(this.#words, at(source, word.head)));
  }

  report(source: number, state: HealthState, failures: number, newSamples: number): void {
    Atomics.add(this.#totals, at(source, word.samples) / 2, BigInt(newSamples));
    Atomics.store(this.#words, at(source, word.failures), failures);
    Atomics.store(this.#words, at(source, word.state), states.indexOf(state));
  }

  /** Sleeps until told something new, at most `milliseconds`. */
  rest(milliseconds: number): void {
    const before = Atomics.load(this.#words, header.wake);
    if (this.stopped) return;
    Atomics.wait(this.#words, header.wake, before, milliseconds);
  }

  #wake(): void {
    Atomics.add(this.#words, header.wake, 1);
    Atomics.notify(this.#words, header.wake);
  }

  /** The tail, moved past what was discarded (a mark between it and the head; all of these wrap). */
  #validTail(source: number): number {
    const head = Atomics.load(this.#words, at(source, word.head));
    const tail = Atomics.load(this.#words, at(source, word.tail));
    const valid = Atomics.load(this.#words, at(source, word.valid));
    return (valid - tail) >>> 0 <= (head - tail) >>> 0 ? valid : tail;
  }
}

const at = (source: number, name: number): number => header.length + source * wordsPerSource + name;
const laneAt = (lane: Lane, name: number): number =>
  header.lane + lanes.indexOf(lane) * laneWord.length + name;

/** Milliseconds that every thread counts alike; wraps, so only differences mean something. */
const clockNow = (): number => Number((process.hrtime.bigint() / 1_000_000n) & 0x7fff_ffffn) | 0;
