// Min-entropy estimators of NIST SP 800-90B that predict the next symbol from the last ones: sections 6.3.7 (multi most common in
// window) and 6.3.8 (lag). Results are bits per symbol. Typed arrays throughout: the bits of a million samples go through here.
import { upperBound } from './frequencies.ts';

/** How a predictor did: correct predictions, of how many, and the longest row of correct ones. */
export class Score {
  #correct = 0;
  #row = 0;
  #longest = 0;
  #made = 0;

  count(correct: boolean): void {
    this.#made += 1;
    if (!correct) {
      this.#row = 0;
      return;
    }
    this.#correct += 1;
    this.#row += 1;
    if (this.#row > this.#longest) this.#longest = this.#row;
  }

  /** Section 6.3.7, steps 5 to 8. */
  minEntropy(alphabet: number): number {
    const global =
      this.#correct === 0 ? 1 - 0.01 ** (1 / this.#made) : upperBound(this.#correct / this.#made, this.#made);
    return -Math.log2(Math.max(global, localProbability(this.#longest + 1, this.#made), 1 / alphabet));
  }
}

/** The success probability at which a row of `run` correct predictions among `made` is as likely as 1 %. */
function localProbability(run: number, made: number): number {
  let low = 0;
  let high = 1;
  for (let step = 0; step < 80; step++) {
    const p = (low + high) / 2;
    if (logNoRun(p, run, made) > Math.log(0.99)) low = p;
    else high = p;
  }
  return low;
}

/** The logarithm of the probability that no row of `run` successes occurs (Feller, XIII.7). */
function logNoRun(p: number, run: number, made: number): number {
  const q = 1 - p;
  let x = 1;
  for (let i = 0; i < 65; i++) {
    const next = 1 + q * p ** run * x ** (run + 1);
    if (next === x) break;
    x = next;
    if (!Number.isFinite(x)) return Number.NEGATIVE_INFINITY;
  }
  const numerator = 1 - p * x;
  const denominator = (run + 1 - run * x) * q;
  if (numerator <= 0 || denominator <= 0) return Number.NEGATIVE_INFINITY;
  return Math.log(numerator) - Math.log(denominator) - (made + 1) * Math.log(x);
}

/** Of several predictors, the one that has been right most often predicts; of equals, the one right last. */
export class Contest {
  readonly score = new Score();
  readonly #wins: Int32Array;
  #winner = 0;

  constructor(predictors: number) {
    this.#wins = new Int32Array(predictors);
  }

  /** `predictions`: -1 for none; those of the first so many predictors, the others have none. */
  judge(predictions: Int32Array, actual: number, predicting = predictions.length): void {
    const wins = this.#wins;
    let winner = this.#winner;
    this.score.count(winner < predicting && predictions[winner] === actual);
    for (let predictor = 0; predictor < predicting; predictor++) {
      if (predictions[predictor] !== actual) continue;
      const count = (wins[predictor] as number) + 1;
      wins[predictor] = count;
      if (count >= (wins[winner] as number)) winner = predictor;
    }
    this.#winner = winner;
  }
}

export function multiMostCommonInWindow(symbols: Uint8Array, alphabet: number): number {
  const windows = Int32Array.of(63, 255, 1023, 4095);
  const contest = new Contest(windows.length);
  const counts = new Int32Array(windows.length * alphabet);
  const modes = new Int32Array(windows.length).fill(-1);
  const lastSeen = new Int32Array(alphabet).fill(-1);
  const predictions = new Int32Array(windows.length);
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i] as number;
    if (i >= 63) {
      for (let w = 0; w < 4; w++) predictions[w] = i >= (windows[w] as number) ? (modes[w] as number) : -1;
      contest.judge(predictions, symbol);
    }
    lastSeen[symbol] = i;
    for (let w = 0; w < 4; w++) {
      const window = windows[w] as number;
      const base = w * alphabet;
      const count = (counts[base + symbol] as number) + 1;
      counts[base + symbol] = count;
      const best = modes[w] as number;
      let leaving = -1;
      if (i >= window) {
        leaving = symbols[i - window] as number;
        counts[base + leaving] = (counts[base + leaving] as number) - 1;
      }
      if (leaving !== -1 && leaving === best) modes[w] = mode(counts, base, alphabet, lastSeen);
      // The symbol has just been seen, so it wins a tie.
      else if (best === -1 || (counts[base + symbol] as number) >= (counts[base + best] as number))
        modes[w] = symbol;
    }
  }
  return contest.score.minEntropy(alphabet);
}

function mode(counts: Int32Array, base: number, alphabet: number, lastSeen: Int32Array): number {
  let best = 0;
  for (let symbol = 1; symbol < alphabet; symbol++) {
    const lead = (counts[base + symbol] as number) - (counts[base + best] as number);
    if (lead > 0 || (lead === 0 && (lastSeen[symbol] as number) > (lastSeen[best] as number))) best = symbol;
  }
  return best;
}

export function lag(symbols: Uint8Array, alphabet: number): number {
  const depth = 128;
  const score = new Score();
  const wins = new Int32Array(depth + 1);
  let winner = 1;
  for (let i = 1; i < symbols.length; i++) {
    const actual = symbols[i] as number;
    score.count(i >= winner && symbols[i - winner] === actual);
    const deepest = Math.min(i, depth);
    let most = wins[winner] as number;
    for (let d = 1; d <= deepest; d++) {
      if (symbols[i - d] !== actual) continue;
      const count = (wins[d] as number) + 1;
      wins[d] = count;
      // Its own count may have been the most before.
      if (d === winner) most = count;
      else if (count >= most) {
        winner = d;
        most = count;
      }
    }
  }
  return score.minEntropy(alphabet);
}
