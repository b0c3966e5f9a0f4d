// Distributions made from uniform floats: normal (Marsaglia's polar method, 1964), exponential, gamma (Marsaglia and Tsang, 2000), beta,
// Poisson, binomial and geometric. Parameters are checked; each method says its domain.
export abstract class Distributions {
  /** In [0, 1). */
  abstract float(): number;

  /** Throws where nothing may be given out any more; called before a value that was made earlier. */
  protected abstract admit(): void;

  #spare: number | undefined;

  /** From `low` to below `high`. */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * this.float();
  }

  /** Normal, of a mean and a standard deviation (not negative). */
  gaussian(mean = 0, deviation = 1): number {
    require(deviation >= 0, 'the deviation is not negative');
    const spare = this.#spare;
    if (spare !== undefined) {
      this.#spare = undefined;
      this.admit();
      return mean + deviation * spare;
    }
    for (;;) {
      const x = 2 * this.float() - 1;
      const y = 2 * this.float() - 1;
      const square = x * x + y * y;
      if (square === 0 || square >= 1) continue;
      const scale = Math.sqrt((-2 * Math.log(square)) / square);
      this.#spare = y * scale;
      return mean + deviation * x * scale;
    }
  }

  gaussians(count: number, mean = 0, deviation = 1): Float64Array {
    const out = new Float64Array(count);
    for (let i = 0; i < count; i++) out[i] = this.gaussian(mean, deviation);
    return out;
  }

  /** Of a mean above 0. */
  exponential(mean = 1): number {
    require(mean > 0, 'the mean is above 0');
    return -mean * Math.log1p(-this.float());
  }

  /** Of a shape and a scale above 0. */
  gamma(shape: number, scale = 1): number {
    require(shape > 0 && scale > 0, 'shape and scale are above 0');
    if (shape < 1) return this.gamma(shape + 1, scale) * (1 - this.float()) ** (1 / shape);
    const d = shape - 1 / 3;
    const c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = this.gaussian();
      const v = (1 + c * x) ** 3;
      if (v <= 0) continue;
      if (Math.log(1 - this.float()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v * scale;
    }
  }

  /** Of parameters above 0. */
  beta(a: number, b: number): number {
    require(a > 0 && b > 0, 'parameters are above 0');
    if (a <= 1 && b <= 1) return this.#smallBeta(a, b);
    const x = this.gamma(a);
    return x / (x + this.gamma(b));
  }

  /** Of a mean from 0. A large one is split into pieces, whose counts add up. */
  poisson(mean: number): number {
    require(mean >= 0 && Number.isFinite(mean), 'the mean is not negative');
    const piece = 30;
    let count = 0;
    let left = mean;
    // What arrives until the n-th event of a Poisson process takes a gamma-distributed time.
    while (left > piece) {
      const events = Math.floor(left * (7 / 8));
      const time = this.gamma(events);
      if (time > left) return count + this.binomial(events - 1, left / time);
      count += events;
      left -= time;
    }
    const limit = Math.exp(-left);
    for (let product = 1 - this.float(); product > limit; product *= 1 - this.float()) count += 1;
    return count;
  }

  /** Successes in `trials`, each of a probability from 0 to 1. */
  binomial(trials: number, probability: number): number {
    require(Number.isSafeInteger(trials) && trials >= 0, 'trials is a whole number, not negative');
    require(probability >= 0 && probability <= 1, 'the probability is from 0 to 1');
    let count = 0;
    let left = trials;
    let p = probability;
    // The median of so many uniform points is beta-distributed: it halves what is left.
    while (left > 64) {
      const middle = 1 + Math.floor(left / 2);
      const point = this.beta(middle, left + 1 - middle);
      if (point <= p) {
        count += middle;
        left -= middle;
        p = point < 1 ? Math.min(1, (p - point) / (1 - point)) : 1;
      } else {
        left = middle - 1;
        p = p / point;
      }
    }
    for (let trial = 0; trial < left; trial++) if (this.float() < p) count += 1;
    return count;
  }

  /** Trials until the first success, of a probability above 0 to 1. */
  geometric(probability: number): number {
    require(probability > 0 && probability <= 1, 'the probability is above 0, to 1');
    if (probability === 1) return 1;
    return Math.max(1, Math.ceil(Math.log1p(-this.float()) / Math.log1p(-probability)));
  }

  /** Jöhnk's (1964), in logarithms: gammas of small shapes would both be zero. */
  #smallBeta(a: number, b: number): number {
    for (;;) {
      const x = Math.log1p(-this.float()) / a;
      const y = Math.log1p(-this.float()) / b;
      if (Math.exp(x) + Math.exp(y) <= 1) return 1 / (1 + Math.exp(y - x));
    }
  }
}

/** @throws RangeError where a parameter is not in its domain. */
export function require(holds: boolean, what: string): void {
  if (!holds) throw new RangeError(what);
}
