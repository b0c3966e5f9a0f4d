// One collector's work: every source in turn, noise -> health tests -> ring. A source that fails is left out and the
// others go on.
import { reasonOf } from '../host/failure.ts';
import { HealthTests } from './health.ts';
import type { SampleRings } from './rings.ts';
import { ringCapacity } from './rings.ts';
import type { NoiseSource, Sampler } from './source.ts';

/** Most samples that a source is asked for at a time; also what a start-up test needs. */
const turnLength = 1024;
const idleTurnLength = 128;

export interface CollectedSource {
  readonly source: NoiseSource;
  /** Min-entropy in bits per sample that the health tests expect at least. */
  readonly expected: number;
}

interface Post {
  readonly source: NoiseSource;
  readonly tests: HealthTests;
  sampler: Sampler | undefined;
  turns: number;
}

export class Collection implements Disposable {
  readonly #posts: Post[];
  readonly #rings: SampleRings;
  readonly #scratch: Uint8Array;
  readonly #level: number;
  readonly #lost: (name: string, why: string) => void;

  /**
   * `scratch`: `turnLength` bytes in the arena. `level`: the samples in a ring that are enough for now. `lost` hears of a source that could not be opened or read.
   * Sources are opened at their first turn.
   */
  constructor(
    sources: readonly CollectedSource[],
    rings: SampleRings,
    scratch: Uint8Array,
    level: number,
    lost: (name: string, why: string) => void,
  ) {
    this.#posts = sources.map(({ source, expected }) => ({
      source,
      tests: new HealthTests(expected),
      sampler: undefined,
      turns: 0,
    }));
    this.#rings = rings;
    this.#scratch = scratch;
    this.#level = level;
    this.#lost = lost;
  }

  /**
   * Gives a turn to each source that is being tested or whose ring is low. Returns whether there was one; if not, every
   * ring is well filled.
   */
  round(): boolean {
    let worked = false;
    for (const [index, post] of this.#posts.entries()) {
      if (this.#rings.takeRestart(index)) post.tests.restart();
      if (!this.#wanted(index, post)) continue;
      this.#turn(index, post, this.#scratch);
      worked = true;
    }
    return worked;
  }

  /** Gives every source a short turn, so that its health tests go on although its ring is filled. */
  idleRound(): void {
    const short = this.#scratch.subarray(0, idleTurnLength);
    for (const [index, post] of this.#posts.entries()) {
      if (post.tests.state !== 'expelled') this.#turn(index, post, short);
    }
  }

  [Symbol.dispose](): void {
    for (const post of this.#posts) release(post);
    this.#scratch.fill(0);
  }

  #wanted(index: number, { tests }: Post): boolean {
    if (tests.state === 'expelled') return false;
    return tests.state !== 'healthy' || !this.#rings.seeded || this.#rings.available(index) < this.#level;
  }

  #turn(index: number, post: Post, scratch: Uint8Array): void {
    let taken = 0;
    try {
      post.sampler ??= post.source.open();
      taken = post.sampler.sample(scratch);
    } catch (error) {
      post.tests.expel();
      this.#lost(post.source.name, reasonOf(error));
    }
    const samples = scratch.subarray(0, taken);
    this.#spoil(index, post, samples);
    const before = post.tests.failures;
    const usable = post.tests.accept(samples);
    if (post.tests.failures > before || post.tests.state === 'expelled') this.#rings.discard(index);
    if (usable > 0) this.#rings.push(index, samples.subarray(taken - usable));
    if (post.tests.state === 'expelled') release(post);
    post.turns += 1;
    this.#rings.report(index, post.tests.state, post.tests.failures, taken);
  }

  /** A rehearsed failure takes the place of the noise. */
  #spoil(index: number, post: Post, samples: Uint8Array): void {
    switch (this.#rings.inducedFailure(index)) {
      case 'stuck':
        samples.fill(0x55);
        return;
      case 'biased':
        for (let i = 0; i < samples.length; i++) if (i % 64 !== 0) samples[i] = 0x55;
        return;
      case 'repeating':
        for (let i = 0; i < samples.length; i++) samples[i] = 0x55 + ((post.turns + (i >> 9)) & 1);
        return;
    }
  }
}

function release(post: Post): void {
  post.sampler?.[Symbol.dispose]();
  post.sampler = undefined;
}

/** Bytes in the arena for so many sources: their rings, then the scratch. */
export const collectionLength = (sources: number): number => sources * ringCapacity + turnLength;
