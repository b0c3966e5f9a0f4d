// Raw samples of one source, and two simple ways of thinning them out: for looking at and for experiments, never for keys. They go
// through the health tests like everything else, and a source that fails gives nothing more.
import { Failure } from '../../host/failure.ts';
import { HealthTests } from '../health.ts';
import type { NoiseSource } from '../source.ts';

export const unconditionedModes = ['raw', 'xor-fold', 'von-neumann'] as const;
export type UnconditionedMode = (typeof unconditionedModes)[number];

const turnLength = 1024;
/** A source that gives nothing for so long is given up. */
const silenceMilliseconds = 10_000;
/** Bytes of raw samples that one byte is folded from. */
const folds = 8;

/** `xor-fold`: eight samples to one. `von-neumann`: pairs of bits, 01 to 0, 10 to 1, others to nothing (1951). */
export function thinned(mode: UnconditionedMode, samples: Uint8Array): Uint8Array {
  if (mode === 'raw') return samples;
  if (mode === 'xor-fold') {
    const out = new Uint8Array(Math.floor(samples.length / folds));
    for (let i = 0; i < out.length * folds; i++) {
      const at = Math.floor(i / folds);
      // Turned, so that the low bits, which vary most, do not fall upon one another.
      const turn = i % folds;
      const sample = samples[i] as number;
      out[at] = (out[at] as number) ^ ((sample << turn) | (sample >>> (8 - turn)));
    }
    return out;
  }
  const out = new Uint8Array(samples.length);
  let bits = 0;
  for (const sample of samples) {
    for (let pair = 6; pair >= 0; pair -= 2) {
      const two = (sample >>> pair) & 3;
      if (two !== 1 && two !== 2) continue;
      if (two === 2) out[bits >>> 3] = (out[bits >>> 3] as number) | (0x80 >>> (bits & 7));
      bits += 1;
    }
  }
  return out.subarray(0, bits >>> 3);
}

/** Fills whatever it is asked for. */
export class UnconditionedOutput implements Disposable {
  readonly #name: string;
  readonly #mode: UnconditionedMode;
  readonly #tests: HealthTests;
  readonly #sampler: ReturnType<NoiseSource['open']>;
  readonly #silence: number;
  #heard = performance.now();
  #left: Uint8Array = new Uint8Array(0);

  /** `expected`: as for the health tests. `silence`: milliseconds that a source may say nothing. */
  constructor(
    source: NoiseSource,
    mode: UnconditionedMode,
    expected: number,
    silence: number = silenceMilliseconds,
  ) {
    this.#silence = silence;
    this.#name = source.name;
    this.#mode = mode;
    this.#tests = new HealthTests(expected);
    this.#sampler = source.open();
  }

  /** @throws Failure `source-unhealthy`, `source-silent`, or what the source throws. */
  read(out: Uint8Array): void {
    for (let done = 0; done < out.length; ) {
      if (this.#left.length === 0) this.#left = this.#more();
      const count = Math.min(this.#left.length, out.length - done);
      out.set(this.#left.subarray(0, count), done);
      this.#left = this.#left.subarray(count);
      done += count;
    }
  }

  [Symbol.dispose](): void {
    this.#left.fill(0);
    this.#sampler[Symbol.dispose]();
  }

  #more(): Uint8Array {
    const samples = new Uint8Array(turnLength);
    const taken = this.#sampler.sample(samples);
    if (taken > 0) this.#heard = performance.now();
    else if (performance.now() - this.#heard > this.#silence) throw silent(this.#name);
    const usable = this.#tests.accept(samples.subarray(0, taken));
    if (this.#tests.state === 'expelled' || this.#tests.state === 'failed') {
      throw new Failure(
        'source-unhealthy',
        `${this.#name}: the ${this.#tests.lastAlarm} test raised an alarm.`,
        {
          kept: 'Nothing more has been given out.',
          remedy: `Look at it with \`esoteric-appliance probe ${this.#name}\`.`,
        },
      );
    }
    return thinned(this.#mode, samples.subarray(taken - usable, taken));
  }
}

const silent = (name: string): Failure =>
  new Failure('source-silent', `${name} gives no samples.`, {
    kept: 'Nothing more has been given out.',
    remedy: 'See what it needs with `esoteric-appliance scan`.',
  });
