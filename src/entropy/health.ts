// Continuous health tests of a noise source: NIST SP 800-90B section 4.4, repetition count test (RCT) and adaptive
// proportion test (APT), both for 8-bit samples, the lag test (lag-test.ts), and the start-up test of section 4.3 (1024 samples
// through all of them).
import { criticalBinomial } from './binomial.ts';
import { LagTest, lagCutoffs } from './lag-test.ts';

/** An alarm that a good source raises about once in 2^30 samples or windows: its samples are dropped, it is tried again. */
const intermittentExponent = 30;
/** An alarm that a good source never raises in its life: it is expelled. */
const permanentExponent = 60;
/** Samples of one APT window for sources that are not binary. */
const aptWindow = 512;
/** Equals no sample. */
const none = 256;
/** Samples that must pass before a source is used, at first and after each alarm. */
export const startUpSamples = 1024;

/**
 * `starting`: in its first start-up test. `healthy`: its samples count. `failed`: an alarm was raised, in a start-up
 * test again. `expelled`: no longer asked until `restart`.
 */
export type HealthState = 'starting' | 'healthy' | 'failed' | 'expelled';
export type Alarm = 'none' | 'intermittent' | 'permanent';
export type HealthTest = 'repetition count' | 'adaptive proportion' | 'lag prediction';

export interface Cutoffs {
  /** Equal samples in a row that raise an alarm. */
  readonly repetition: number;
  /** Samples of a window, the first counted, equal to its first that raise an alarm. */
  readonly proportion: number;
}

/**
 * Section 4.4.1 and 4.4.2. `entropy`: min-entropy in bits per sample (> 0); alpha is 2^-`exponent`. The proportion is
 * that of the published correction (the first sample always equals itself, so 511 are drawn) and, as FIPS 140-2 IG 7.19
 * asks, never more than the window, which no source could fail.
 */
export function cutoffs(entropy: number, exponent: number): Cutoffs {
  if (!(entropy > 0 && entropy <= 8)) throw new RangeError('min-entropy of a byte is in (0, 8]');
  return {
    repetition: 1 + Math.ceil(exponent / entropy),
    proportion: Math.min(aptWindow, 2 + criticalBinomial(aptWindow - 1, 2 ** -entropy, 2 ** -exponent)),
  };
}

type Limits = Cutoffs & ReturnType<typeof lagCutoffs>;

const limitsOf = (entropy: number, exponent: number): Limits => ({
  ...cutoffs(entropy, exponent),
  ...lagCutoffs(entropy, exponent),
});

/** The tests of one source, with their state. */
export class HealthTests {
  /** Alarms since construction; one that goes on over several calls counts once. */
  failures = 0;
  /** The test that raised the last alarm. */
  lastAlarm: HealthTest | undefined;
  readonly #intermittent: Limits;
  readonly #permanent: Limits;
  readonly #lag: LagTest | undefined;
  #state: HealthState = 'starting';
  #startUpLeft = startUpSamples;
  #previous = none;
  #run = 0;
  #first = none;
  #matches = 0;
  #left = 0;

  /**
   * `entropy`: the min-entropy in bits per sample that the source is expected to have at least. `lag`: false leaves the lag
   * test out. `history`: where that keeps its last samples.
   */
  constructor(
    entropy: number,
    { lag = true, history }: { readonly lag?: boolean; readonly history?: Uint8Array } = {},
  ) {
    this.#intermittent = limitsOf(entropy, intermittentExponent);
    this.#permanent = limitsOf(entropy, permanentExponent);
    if (lag) this.#lag = new LagTest(history);
  }

  get state(): HealthState {
    return this.#state;
  }

  /** Tests anew from the beginning, on demand (section 4.3); the way back for an expelled source. */
  restart(): void {
    this.#state = 'starting';
    this.#startUpLeft = startUpSamples;
    this.#previous = none;
    this.#run = 0;
    this.#matches = 0;
    this.#left = 0;
    this.#lag?.restart();
  }

  /** The source could not be asked, or was silent: what it says next goes through a start-up test. */
  fail(): void {
    this.failures += 1;
    this.restart();
    this.#state = 'failed';
  }

  /** The source is not asked any more. */
  expel(): void {
    if (this.#state !== 'failed') this.failures += 1;
    this.#state = 'expelled';
  }

  /**
   * Takes the next raw samples of the source and says how many of them, at the end, may be used: those after the
   * start-up test, none with an alarm.
   */
  accept(samples: Uint8Array): number {
    if (this.#state === 'expelled') return 0;
    const alarm = this.#test(samples);
    if (alarm !== 'none') {
      const again = this.#state === 'failed' && this.#startUpLeft === startUpSamples;
      if (!again) this.failures += 1;
      this.#state = alarm === 'permanent' ? 'expelled' : 'failed';
      this.#startUpLeft = startUpSamples;
      return 0;
    }
    if (this.#state === 'healthy') return samples.length;
    const spent = Math.min(samples.length, this.#startUpLeft);
    this.#startUpLeft -= spent;
    if (this.#startUpLeft === 0) this.#state = 'healthy';
    return samples.length - spent;
  }

  /** Runs all tests over the samples, window by window; compares with the cutoffs after each piece of a window. */
  #test(samples: Uint8Array): Alarm {
    let longest = 0;
    let most = 0;
    for (let at = 0; at < samples.length; ) {
      if (this.#left === 0) {
        this.#first = samples[at] ?? 0;
        this.#matches = 0;
        this.#left = aptWindow;
      }
      const end = Math.min(samples.length, at + this.#left);
      longest = Math.max(longest, this.#piece(samples, at, end));
      most = Math.max(most, this.#matches);
      this.#left -= end - at;
      at = end;
    }
    const { inWindow, inRow } = this.#lag?.test(samples) ?? { inWindow: 0, inRow: 0 };
    const reached = (limits: Limits): HealthTest | undefined => {
      if (longest >= limits.repetition) return 'repetition count';
      if (most >= limits.proportion) return 'adaptive proportion';
      return inWindow >= limits.inWindow || inRow >= limits.inRow ? 'lag prediction' : undefined;
    };
    const permanent = reached(this.#permanent);
    const alarm = permanent ?? reached(this.#intermittent);
    if (alarm === undefined) return 'none';
    this.lastAlarm = alarm;
    return permanent === undefined ? 'intermittent' : 'permanent';
  }

  /**
   * The hot loop, over samples of one window; without branches, so that it takes the same time for good and for bad
   * samples. Returns the longest run that ended or went on in it.
   */
  #piece(samples: Uint8Array, from: number, to: number): number {
    const first = this.#first;
    let previous = this.#previous;
    let run = this.#run;
    let longest = 0;
    let matches = this.#matches;
    for (let i = from; i < to; i++) {
      const sample = (samples[i] as number) | 0;
      matches -= ((sample ^ first) - 1) >> 31; // -1 where equal, else 0
      const same = ((sample ^ previous) - 1) >> 31; // all ones where equal, else 0
      run = (run & same) + 1;
      longest = Math.max(longest, run);
      previous = sample;
    }
    this.#previous = previous;
    this.#run = run;
    this.#matches = matches;
    return longest;
  }
}
