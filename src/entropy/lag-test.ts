// A third continuous health test beside RCT and APT (SP 800-90B section 4.5 asks for more where a source can fail in more ways): a
// predictor that guesses each sample from the eight before it (a period), or from the step between the last two (a ramp), always by
// whichever guessed best in this window. Cutoffs as in section 4.4: too many right guesses in a window, or too many in a row.
import { criticalBinomial } from './binomial.ts';

/** Samples that a test keeps. */
export const lags = 8;
/** The last guesser is the ramp. */
const guessers = lags + 1;
const windowLength = 1024;

export interface LagCutoffs {
  readonly inWindow: number;
  readonly inRow: number;
}

/** `entropy`: min-entropy in bits per sample; alpha is 2^-`exponent`. */
export function lagCutoffs(entropy: number, exponent: number): LagCutoffs {
  return {
    inWindow: Math.min(windowLength, 1 + criticalBinomial(windowLength, 2 ** -entropy, 2 ** -exponent)),
    inRow: 1 + Math.ceil(exponent / entropy),
  };
}

export class LagTest {
  readonly #history: Uint8Array;
  readonly #scores = new Int32Array(guessers);
  #at = 0;
  #seen = 0;
  #best = 0;
  #right = 0;
  #row = 0;
  #left = windowLength;

  /** `history`: `lags` bytes for the last samples, in the arena where what is tested goes into a seed. */
  constructor(history: Uint8Array = new Uint8Array(lags)) {
    this.#history = history;
  }

  restart(): void {
    this.#scores.fill(0);
    this.#seen = 0;
    this.#best = 0;
    this.#right = 0;
    this.#row = 0;
    this.#left = windowLength;
  }

  /** Takes the next samples; returns the most right guesses in a window and in a row that there were. */
  test(samples: Uint8Array): LagCutoffs {
    const history = this.#history;
    const scores = this.#scores;
    let mostRight = 0;
    let longest = 0;
    for (let i = 0; i < samples.length; i++) {
      const sample = samples[i] as number;
      const at = this.#at;
      if (this.#seen >= lags) {
        const last = history[(at + lags - 1) & (lags - 1)] as number;
        const ramp = (2 * last - (history[(at + lags - 2) & (lags - 1)] as number)) & 0xff;
        let best = this.#best;
        const guess = best === lags ? ramp : (history[(at + lags - 1 - best) & (lags - 1)] as number);
        if (guess === sample) {
          this.#right += 1;
          this.#row += 1;
          if (this.#row > longest) longest = this.#row;
        } else this.#row = 0;
        for (let lag = 0; lag < lags; lag++) {
          if (history[(at + lags - 1 - lag) & (lags - 1)] !== sample) continue;
          scores[lag] = (scores[lag] as number) + 1;
          if ((scores[lag] as number) > (scores[best] as number)) best = lag;
        }
        if (ramp === sample) {
          scores[lags] = (scores[lags] as number) + 1;
          if ((scores[lags] as number) > (scores[best] as number)) best = lags;
        }
        this.#best = best;
      } else this.#seen += 1;
      history[at] = sample;
      this.#at = (at + 1) & (lags - 1);
      if (this.#right > mostRight) mostRight = this.#right;
      this.#left -= 1;
      if (this.#left > 0) continue;
      this.#left = windowLength;
      this.#right = 0;
      scores.fill(0);
    }
    return { inWindow: mostRight, inRow: longest };
  }
}
