// The other distributions of counts that NumPy's Generator has, and those of several values at once.
import { require } from './distributions.ts';
import { ContinuousDistributions } from './distributions-continuous.ts';

export abstract class CountDistributions extends ContinuousDistributions {
  /** From `low` to below `high`. */
  abstract integer(low: number, high: number): number;

  /** Failures before so many successes (any number above 0), each of a probability above 0, to 1. */
  negativeBinomial(successes: number, probability: number): number {
    require(successes > 0, 'the number of successes is above 0');
    require(probability > 0 && probability <= 1, 'the probability is above 0, to 1');
    if (probability === 1) return 0;
    return this.poisson(this.gamma(successes, (1 - probability) / probability));
  }

  /** How many of `drawn` are good, without putting back. Takes as many steps as are drawn, or left, whichever is less. */
  hypergeometric(good: number, bad: number, drawn: number): number {
    const all = good + bad;
    require(isCount(good) &&
      isCount(bad) &&
      isCount(drawn) &&
      Number.isSafeInteger(all), 'counts are whole numbers');
    require(drawn <= all, 'no more are drawn than there are');
    // What is left behind is a draw as well.
    if (drawn > all / 2) return good - this.hypergeometric(good, bad, all - drawn);
    let found = 0;
    for (let left = all; left > all - drawn; left -= 1) if (this.integer(0, left) < good - found) found += 1;
    return found;
  }

  /** From 1, of shares p^k / k, p from 0 to below 1 (Kemp's second accelerated generator, 1981). */
  logSeries(p: number): number {
    require(p >= 0 && p < 1, 'p is from 0 to below 1');
    const r = Math.log1p(-p);
    for (;;) {
      const v = this.float();
      if (v >= p) return 1;
      const q = -Math.expm1(r * this.float());
      if (v <= q * q) {
        const value = Math.floor(1 + Math.log(v) / Math.log(q));
        if (Number.isSafeInteger(value) && value >= 1) return value;
        continue;
      }
      return v >= q ? 1 : 2;
    }
  }

  /** From 1, of shares k^-a, a above 1 (Devroye, 1986). Below 2^53. */
  zipf(a: number): number {
    require(a > 1, 'the exponent is above 1');
    // All but one in 2^1024.
    if (a > 1025) return 1;
    const power = a - 1;
    const b = 2 ** power;
    const least = (2 ** 53) ** -power;
    for (;;) {
      const u = 1 - this.float();
      const x = Math.floor((u + (1 - u) * least) ** (-1 / power));
      const v = this.float();
      if (!Number.isSafeInteger(x)) continue;
      const t = (1 + 1 / x) ** power;
      const ratio = Math.expm1(power * Math.log1p(1 / x)) / Math.expm1(power * Math.LN2);
      if (v * x * ratio <= t / b) return x;
    }
  }

  /** How `trials` fall to items of these weights, which need not add up to one. */
  multinomial(trials: number, weights: readonly number[]): number[] {
    totalOf(weights);
    require(isCount(trials), 'trials is a whole number, not negative');
    const rests = sumsFrom(weights);
    let left = trials;
    return weights.map((weight, i) => {
      const rest = rests[i] ?? 0;
      const count = rest === 0 ? 0 : this.binomial(left, weight / rest);
      left -= count;
      return count;
    });
  }

  /** How many of each colour are among `drawn`, without putting back. Takes as many steps for each colour as are drawn. */
  multivariateHypergeometric(colours: readonly number[], drawn: number): number[] {
    require(colours.every(isCount) && isCount(drawn), 'counts are whole numbers');
    let rest = colours.reduce((sum, colour) => sum + colour, 0);
    require(drawn <= rest, 'no more are drawn than there are');
    let left = drawn;
    return colours.map((colour) => {
      rest -= colour;
      const count = this.hypergeometric(colour, rest, left);
      left -= count;
      return count;
    });
  }

  /** Shares that add up to one, of parameters above 0. */
  dirichlet(parameters: readonly number[]): number[] {
    require(parameters.length > 0 && parameters.every((each) => each > 0), 'parameters are above 0');
    const rests = sumsFrom(parameters);
    let left = 1;
    // By breaking a stick: gammas of small parameters would all be zero.
    return parameters.map((parameter, i) => {
      const rest = rests[i + 1];
      const piece = rest === undefined ? left : left * this.beta(parameter, rest);
      left -= piece;
      return piece;
    });
  }

  /** Of a mean and a covariance matrix, row by row, symmetric and positive semi-definite. */
  multivariateGaussian(mean: readonly number[], covariance: readonly (readonly number[])[]): number[] {
    const rows = cholesky(covariance);
    require(rows.length === mean.length, 'the covariance has a row and a column for each mean');
    const independent = mean.map(() => this.gaussian());
    return mean.map((each, i) => each + dot(rows[i] ?? [], independent));
  }
}

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

/** The sum of each value and all after it, so that none is the difference of others. */
function sumsFrom(values: readonly number[]): number[] {
  let sum = 0;
  return values
    .toReversed()
    .map((value) => {
      sum += value;
      return sum;
    })
    .toReversed();
}

/** The sum of weights. @throws RangeError where one is negative, or all are zero, or the sum is no float. */
export function totalOf(weights: readonly number[]): number {
  require(weights.every((weight) => weight >= 0), 'no weight is negative');
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  require(total > 0 && Number.isFinite(total), 'weights add up to more than zero, and to a finite number');
  return total;
}

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);

/** The lower triangle whose product with its transpose is `matrix`. @throws RangeError where there is none. */
function cholesky(matrix: readonly (readonly number[])[]): number[][] {
  const n = matrix.length;
  const at = (i: number, j: number): number => matrix[i]?.[j] ?? Number.NaN;
  const largest = Math.max(0, ...matrix.map((_, i) => at(i, i)));
  /** What rounding leaves of a zero. */
  const nothing = largest * n * Number.EPSILON * 8;
  const rows: number[][] = [];
  for (let i = 0; i < n; i++) {
    require(matrix[i]?.length === n, 'the covariance is a square');
    const row: number[] = [];
    for (let j = 0; j < i; j++) {
      require(Math.abs(at(i, j) - at(j, i)) <= nothing, 'the covariance is symmetric');
      const rest = at(i, j) - dot(row, rows[j] ?? []);
      const pivot = rows[j]?.[j] ?? 0;
      require(pivot > 0 ||
        Math.abs(rest) <= Math.sqrt(nothing * largest), 'the covariance is positive semi-definite');
      row.push(pivot > 0 ? rest / pivot : 0);
    }
    const rest = at(i, i) - dot(row, row);
    require(rest >= -nothing, 'the covariance is positive semi-definite');
    row.push(rest <= nothing ? 0 : Math.sqrt(rest));
    rows.push(row);
  }
  return rows;
}
