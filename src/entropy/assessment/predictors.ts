// Min-entropy estimators of NIST SP 800-90B that predict the next symbol: sections 6.3.7 (multi most common in window),
// 6.3.8 (lag), 6.3.9 (multi Markov model with counting) and 6.3.10 (LZ78Y). Results are bits per symbol.
import { upperBound } from './frequencies.ts';

/** How a predictor did: correct predictions, of how many, and the longest row of correct ones. */
class Score {
  #correct = 0;
  #row = 0;
  #longest = 0;
  #made = 0;

  count(correct: boolean): void {
    this.#made += 1;
    this.#row = correct ? this.#row + 1 : 0;
    if (!correct) return;
    this.#correct += 1;
    this.#longest = Math.max(this.#longest, this.#row);
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
class Contest {
  readonly score = new Score();
  readonly #wins: number[];
  #winner = 0;

  constructor(predictors: number) {
    this.#wins = new Array<number>(predictors).fill(0);
  }

  /** `predictions`: -1 for none. */
  judge(predictions: Int32Array, actual: number): void {
    this.score.count(predictions[this.#winner] === actual);
    for (const [predictor, prediction] of predictions.entries()) {
      if (prediction !== actual) continue;
      const wins = (this.#wins[predictor] ?? 0) + 1;
      this.#wins[predictor] = wins;
      if (wins >= (this.#wins[this.#winner] ?? 0)) this.#winner = predictor;
    }
  }
}

export function multiMostCommonInWindow(symbols: Uint8Array, alphabet: number): number {
  const windows = [63, 255, 1023, 4095];
  const contest = new Contest(windows.length);
  const counts = windows.map(() => new Int32Array(256));
  const modes = new Int32Array(windows.length).fill(-1);
  const lastSeen = new Int32Array(256).fill(-1);
  const predictions = new Int32Array(windows.length);
  for (const [i, symbol] of symbols.entries()) {
    if (i >= 63) {
      for (const [w, window] of windows.entries()) predictions[w] = i >= window ? (modes[w] ?? -1) : -1;
      contest.judge(predictions, symbol);
    }
    lastSeen[symbol] = i;
    for (const [w, window] of windows.entries()) {
      const inWindow = counts[w] ?? new Int32Array(256);
      inWindow[symbol] = (inWindow[symbol] ?? 0) + 1;
      const leaving = i >= window ? symbols[i - window] : undefined;
      if (leaving !== undefined) inWindow[leaving] = (inWindow[leaving] ?? 0) - 1;
      modes[w] = leaving === modes[w] ? mode(inWindow, lastSeen) : better(modes[w] ?? -1, symbol, inWindow);
    }
  }
  return contest.score.minEntropy(alphabet);
}

/** `symbol` has just been seen, so it wins a tie. */
const better = (best: number, symbol: number, counts: Int32Array): number =>
  best === -1 || (counts[symbol] ?? 0) >= (counts[best] ?? 0) ? symbol : best;

function mode(counts: Int32Array, lastSeen: Int32Array): number {
  let best = 0;
  for (let symbol = 1; symbol < counts.length; symbol++) {
    const lead = (counts[symbol] ?? 0) - (counts[best] ?? 0);
    if (lead > 0 || (lead === 0 && (lastSeen[symbol] ?? 0) > (lastSeen[best] ?? 0))) best = symbol;
  }
  return best;
}

export function lag(symbols: Uint8Array, alphabet: number): number {
  const depth = 128;
  const contest = new Contest(depth);
  const predictions = new Int32Array(depth);
  for (let i = 1; i < symbols.length; i++) {
    for (let d = 1; d <= depth; d++) predictions[d - 1] = i >= d ? (symbols[i - d] ?? -1) : -1;
    contest.judge(predictions, symbols[i] ?? 0);
  }
  return contest.score.minEntropy(alphabet);
}

/** How often each symbol followed a context, with the most frequent (of equals, the greatest) at hand. */
class Followers {
  best = -1;
  bestCount = 0;
  readonly #counts = new Map<number, number>();

  has(symbol: number): boolean {
    return this.#counts.has(symbol);
  }

  add(symbol: number): void {
    const count = (this.#counts.get(symbol) ?? 0) + 1;
    this.#counts.set(symbol, count);
    if (count < this.bestCount || (count === this.bestCount && symbol < this.best)) return;
    this.best = symbol;
    this.bestCount = count;
  }
}

export function multiMarkovModel(symbols: Uint8Array, alphabet: number): number {
  const depth = 16;
  const mostEntries = 100_000;
  const text = Buffer.from(symbols).toString('latin1');
  const models = Array.from({ length: depth }, () => new Map<string, Followers>());
  const entries = new Int32Array(depth);
  const contest = new Contest(depth);
  const predictions = new Int32Array(depth);
  for (let i = 2; i < symbols.length; i++) {
    const last = symbols[i - 1] ?? 0;
    for (const [d, model] of models.entries()) {
      predictions[d] = -1;
      const size = d + 1;
      if (size >= i) continue;
      const context = text.slice(i - 1 - size, i - 1);
      let followers = model.get(context);
      const known = followers?.has(last) === true;
      if (known || (entries[d] ?? 0) < mostEntries) {
        if (!known) entries[d] = (entries[d] ?? 0) + 1;
        if (followers === undefined) {
          followers = new Followers();
          model.set(context, followers);
        }
        followers.add(last);
      }
      predictions[d] = model.get(text.slice(i - size, i))?.best ?? -1;
    }
    contest.judge(predictions, symbols[i] ?? 0);
  }
  return contest.score.minEntropy(alphabet);
}

export function lz78y(symbols: Uint8Array, alphabet: number): number {
  const depth = 16;
  const mostEntries = 65_536;
  const text = Buffer.from(symbols).toString('latin1');
  const dictionary = new Map<string, Followers>();
  const score = new Score();
  for (let i = depth + 1; i < symbols.length; i++) {
    const last = symbols[i - 1] ?? 0;
    let prediction = -1;
    let mostOften = 0;
    for (let size = depth; size >= 1; size--) {
      const context = text.slice(i - 1 - size, i - 1);
      let followers = dictionary.get(context);
      if (followers === undefined && dictionary.size < mostEntries) {
        followers = new Followers();
        dictionary.set(context, followers);
      }
      followers?.add(last);
    }
    for (let size = depth; size >= 1; size--) {
      const followers = dictionary.get(text.slice(i - size, i));
      if (followers === undefined || followers.bestCount <= mostOften) continue;
      prediction = followers.best;
      mostOften = followers.bestCount;
    }
    score.count(prediction === symbols[i]);
  }
  return score.minEntropy(alphabet);
}
