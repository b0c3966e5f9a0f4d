// What the collector thread and its owner share: a ring of raw samples for each source in the secret arena, and control
// words, states and counters in a SharedArrayBuffer. One producer, one consumer, no locks.
import type { HealthState } from './health.ts';

/** Samples that each ring holds; a power of two. */
export const ringCapacity = 8192;

const header = { stop: 0, paused: 1, wake: 2, seeded: 3, length: 16 } as const;
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

/** A failure to rehearse: what a broken source would deliver instead of its samples. */
export type InducedFailure = 'stuck' | 'biased' | 'repeating';
const induced = [undefined, 'stuck', 'biased', 'repeating'] as const;

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

  // The collector's side.

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

  /** Appends what fits, drops the rest. */
  push(source: number, samples: Uint8Array): void {
    const head = Atomics.load(this.#words, at(source, word.head));
    const tail = Atomics.load(this.#words, at(source, word.tail));
    const count = Math.min(samples.length, ringCapacity - ((head - tail) >>> 0));
    for (let i = 0; i < count; i++) {
      this.#memory[source * ringCapacity + ((head + i) & (ringCapacity - 1))] = samples[i] ?? 0;
    }
    Atomics.store(this.#words, at(source, word.head), (head + count) | 0);
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
