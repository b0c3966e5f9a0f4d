// Each distribution against its density or its shares, by the tests of Kolmogorov and of Pearson, on a stream that is the same in every
// run: what fails is wrong.
import { createCipheriv } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { Random } from '../../src/entropy/random.ts';

let random: Random;
beforeEach(() => {
  const stream = createCipheriv('aes-256-ctr', Buffer.alloc(32, 7), Buffer.alloc(16));
  random = new Random((out) => void out.set(stream.update(new Uint8Array(out.length))));
});

type Real = (x: number) => number;

/** The integral of `density` up to each of the sorted points, divided by all of it; singular ends are left to small steps. */
function shareBelow(
  density: Real,
  [from, to]: readonly [number, number],
  points: readonly number[],
): number[] {
  const steps = 20_000;
  const width = (to - from) / steps;
  const sums = [0];
  for (let i = 0; i < steps; i++) sums.push((sums[i] ?? 0) + density(from + (i + 0.5) * width) * width);
  const all = sums[steps] ?? 1;
  return points.map((x) => {
    const at = Math.min(steps, Math.max(0, (x - from) / width));
    const below = sums[Math.floor(at)] ?? 0;
    const next = sums[Math.floor(at) + 1] ?? below;
    return (below + (next - below) * (at - Math.floor(at))) / all;
  });
}

/** Kolmogorov's distance; above the limit once in a million streams where the distribution is right. */
function expectDensity(one: () => number, density: Real, range: readonly [number, number]): void {
  const count = 20_000;
  const values = Array.from({ length: count }, one).sort((a, b) => a - b);
  const shares = shareBelow(density, range, values);
  expect(shares.some(Number.isNaN)).toBe(false);
  const distance = Math.max(
    ...shares.map((share, i) => Math.max(share - i / count, (i + 1) / count - share)),
  );
  expect(distance).toBeLessThan(Math.sqrt(-Math.log(0.5e-6) / (2 * count)));
}

/** Pearson's sum over the values from `from` on; beyond the last that is expected ten times all are one. */
function expectCounts(one: () => number, shareOf: Real, from = 0): void {
  const count = 20_000;
  const seen = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const value = one();
    seen.set(value, (seen.get(value) ?? 0) + 1);
  }
  let sum = 0;
  let cells = 0;
  let found = 0;
  let share = 0;
  const add = (observed: number, expected: number): void => {
    sum += (observed - expected) ** 2 / expected;
    cells += 1;
  };
  // Up to the first value that is frequent, those before it are one cell.
  let pending = [0, 0] as [number, number];
  for (let k = from; share < 1 - 10 / count && k < from + 3000; k++) {
    pending = [pending[0] + (seen.get(k) ?? 0), pending[1] + shareOf(k)];
    share += shareOf(k);
    found += seen.get(k) ?? 0;
    if (pending[1] * count < 10) continue;
    add(pending[0], pending[1] * count);
    pending = [0, 0];
  }
  const rest = 1 - share + pending[1];
  if (rest * count > 1) add(count - found + pending[0], rest * count);
  const freedom = cells - 1;
  // Five of its deviations above its mean, and a little for its skew.
  expect([...seen.keys()].every((value) => value >= from)).toBe(true);
  expect(sum).toBeLessThan(freedom + 5 * Math.sqrt(2 * freedom) + 12);
}

/** Of a whole number or a half. */
function lnGamma(x: number): number {
  let sum = 0;
  let at = x;
  for (; at < 20; at += 1) sum -= Math.log(at);
  return (
    sum + (at - 0.5) * Math.log(at) - at + 0.5 * Math.log(2 * Math.PI) + 1 / (12 * at) - 1 / (360 * at ** 3)
  );
}
const chose = (n: number, k: number): number =>
  k < 0 || k > n ? 0 : Math.exp(lnGamma(n + 1) - lnGamma(k + 1) - lnGamma(n - k + 1));
const { abs, cos, exp, log } = Math;

describe('a value has the density of its distribution', () => {
  /** A mixture of chi-squares, the weights those of Poisson. */
  const noncentral = (v: number, l: number): Real => {
    const terms = Array.from({ length: 40 }, (_, j) => {
      const half = v / 2 + j;
      const poisson = j === 0 ? 0 : j * log(l / 2) - lnGamma(j + 1);
      return poisson - l / 2 - lnGamma(half) - half * log(2);
    }).slice(0, l === 0 ? 1 : 40);
    return (x) => terms.reduce((sum, term, j) => sum + exp(term + (v / 2 + j - 1) * log(x) - x / 2), 0);
  };
  it.each<[string, () => number, Real, [number, number]]>([
    ['gaussian', () => random.gaussian(1, 2), (x) => exp(-((x - 1) ** 2) / 8), [-15, 17]],
    ['exponential', () => random.exponential(2), (x) => exp(-x / 2), [0, 60]],
    ['gamma', () => random.gamma(2.5, 2), (x) => x ** 1.5 * exp(-x / 2), [0, 80]],
    ['beta', () => random.beta(2, 3), (x) => x * (1 - x) ** 2, [0, 1]],
    ['beta of small parameters', () => random.beta(0.5, 0.8), (x) => x ** -0.5 * (1 - x) ** -0.2, [0, 1]],
    ['log-normal', () => random.logNormal(0.5, 0.5), (x) => exp(-((log(x) - 0.5) ** 2) / 0.5) / x, [0, 40]],
    ['Laplace', () => random.laplace(1, 2), (x) => exp(-abs(x - 1) / 2), [-50, 50]],
    [
      'logistic',
      () => random.logistic(1, 2),
      (x) => exp(-abs(x - 1) / 2) / (1 + exp(-abs(x - 1) / 2)) ** 2,
      [-80, 80],
    ],
    ['Gumbel', () => random.gumbel(1, 2), (x) => exp(-(x - 1) / 2 - exp(-(x - 1) / 2)), [-15, 80]],
    ['Cauchy', () => 1 / (1 + abs(random.cauchy())), (u) => 1 / (u ** 2 + (1 - u) ** 2), [0, 1]],
    ['Cauchy, its sign', () => (random.cauchy() < 0 ? 0 : 1) + random.float(), () => 1, [0, 2]],
    ['Pareto', () => random.pareto(3), (x) => (1 + x) ** -4, [0, 400]],
    ['power', () => random.power(2.5), (x) => x ** 1.5, [0, 1]],
    ['Rayleigh', () => random.rayleigh(2), (x) => x * exp(-(x ** 2) / 8), [0, 20]],
    ['Weibull', () => random.weibull(1.5), (x) => x ** 0.5 * exp(-(x ** 1.5)), [0, 15]],
    ['triangular', () => random.triangular(1, 2, 5), (x) => (x < 2 ? (x - 1) / 1 : (5 - x) / 3), [1, 5]],
    ['chi-square', () => random.chiSquare(3), noncentral(3, 0), [0, 60]],
    ['noncentral chi-square', () => random.chiSquare(3, 2), noncentral(3, 2), [0, 80]],
    [
      'noncentral chi-square of one degree',
      () => random.chiSquare(1, 2) ** 0.5,
      (y) => 2 * y * noncentral(1, 2)(y * y),
      [0, 9],
    ],
    ["Fisher's", () => random.fisher(4, 7), (x) => x / (1 + (4 / 7) * x) ** 5.5, [0, 400]],
    ["Student's", () => random.studentT(4), (x) => (1 + x ** 2 / 4) ** -2.5, [-100, 100]],
    ['Wald', () => random.wald(2, 3), (x) => x ** -1.5 * exp((-3 * (x - 2) ** 2) / (8 * x)), [0, 60]],
    ['von Mises', () => random.vonMises(1, 2), (x) => exp(2 * cos(x - 1)), [-Math.PI, Math.PI]],
    ['von Mises, wide', () => random.vonMises(3, 1e-6), () => 1, [-Math.PI, Math.PI]],
    ['von Mises, narrow', () => 1e4 * random.vonMises(0, 1e8), (x) => exp((-x * x) / 2), [-9, 9]],
  ])('%s', (_, one, density, range) => expectDensity(one, density, range));

  it("Fisher's, noncentral: of its numerator", () => {
    expectDensity(() => 4 * random.fisher(4, 1e9, 3), noncentral(4, 3), [0, 90]);
  });

  it('and is a number where gammas would be zero', () => {
    const values = Array.from({ length: 2000 }, () => random.beta(1e-3, 1e-3));
    expect(values.every((value) => value >= 0 && value <= 1)).toBe(true);
    const high = values.filter((value) => value > 0.5).length;
    expect(abs(high - 1000)).toBeLessThan(6 * Math.sqrt(500));
  });
});

describe('a count has the shares of its distribution', () => {
  it.each<[string, () => number, Real, number?]>([
    ['Poisson', () => random.poisson(3), (k) => exp(k * log(3) - 3 - lnGamma(k + 1))],
    ['Poisson of a large mean', () => random.poisson(200), (k) => exp(k * log(200) - 200 - lnGamma(k + 1))],
    ['binomial', () => random.binomial(300, 0.2), (k) => chose(300, k) * 0.2 ** k * 0.8 ** (300 - k)],
    ['geometric', () => random.geometric(0.25), (k) => 0.25 * 0.75 ** (k - 1), 1],
    [
      'negative binomial',
      () => random.negativeBinomial(2.5, 0.3),
      (k) => exp(lnGamma(k + 2.5) - lnGamma(2.5) - lnGamma(k + 1)) * 0.3 ** 2.5 * 0.7 ** k,
    ],
    [
      'hypergeometric',
      () => random.hypergeometric(12, 20, 9),
      (k) => (chose(12, k) * chose(20, 9 - k)) / chose(32, 9),
    ],
    [
      'hypergeometric, most drawn',
      () => random.hypergeometric(12, 20, 25),
      (k) => (chose(12, k) * chose(20, 25 - k)) / chose(32, 25),
    ],
    ['logarithmic series', () => random.logSeries(0.8), (k) => 0.8 ** k / (k * -log(0.2)), 1],
    ['zeta', () => random.zipf(3), (k) => k ** -3 / 1.2020569031595942, 1],
    ['zeta of a small exponent', () => random.zipf(1.5), (k) => k ** -1.5 / 2.612375348685488, 1],
  ])('%s', (_, one, shareOf, from) => expectCounts(one, shareOf, from));

  it('at the ends of its domain', () => {
    expect(random.negativeBinomial(3, 1)).toBe(0);
    expect(random.hypergeometric(5, 0, 4)).toBe(4);
    expect(random.hypergeometric(0, 5, 5)).toBe(0);
    expect(random.logSeries(0)).toBe(1);
    expect(random.zipf(2000)).toBe(1);
    expect(Number.isSafeInteger(random.zipf(1 + 2 ** -40))).toBe(true);
  });
});

describe('several values at once', () => {
  /** A draw that does not is counted as -1, which has no share. */
  const adds = (values: readonly number[], all: number): boolean =>
    abs(values.reduce((sum, value) => sum + value) - all) < 1e-12;

  it('multinomial: each count is binomial, and all add up', () => {
    expectCounts(
      () => {
        const counts = random.multinomial(10, [1, 0, 2, 2]);
        return adds(counts, 10) && counts[1] === 0 ? (counts[3] ?? -1) : -1;
      },
      (k) => chose(10, k) * 0.4 ** k * 0.6 ** (10 - k),
    );
  });

  it('multivariate hypergeometric: each count is hypergeometric, and all add up', () => {
    expectCounts(
      () => {
        const counts = random.multivariateHypergeometric([5, 0, 7, 8], 9);
        return adds(counts, 9) && counts[1] === 0 ? (counts[2] ?? -1) : -1;
      },
      (k) => (chose(7, k) * chose(13, 9 - k)) / chose(20, 9),
    );
  });

  it('Dirichlet: each share is beta, and all add up', () => {
    const one = (): number => {
      const shares = random.dirichlet([2, 1, 3]);
      return adds(shares, 1) ? (shares[2] ?? -1) : -1;
    };
    expectDensity(one, (x) => x ** 2 * (1 - x) ** 2, [0, 1]);
    expect(random.dirichlet([1e-4, 1e-4, 1e-4]).every((share) => share >= 0 && share <= 1)).toBe(true);
  });

  it('multivariate normal: every sum of its values is normal, of the variance that the matrix says', () => {
    const covariance = [
      [4, 2, 2],
      [2, 5, 1],
      [2, 1, 1],
    ];
    const one = (): number => {
      const [x = 0, y = 0, z = 0] = random.multivariateGaussian([1, 2, 3], covariance);
      return x - y + 2 * z;
    };
    // 4 + 5 + 4 - 2·2 + 4·2 - 4·1
    expectDensity(one, (x) => exp(-((x - 5) ** 2) / 26), [-30, 40]);
    const [x, y] = random.multivariateGaussian([0, 0], [[1, 1], [1, 1]]); // biome-ignore format: a matrix
    expect(x).toBe(y);
  });
});

it('what is outside of a domain is refused', () => {
  for (const wrong of [
    () => random.laplace(0, -1),
    () => random.pareto(0),
    () => random.power(Number.NaN),
    () => random.triangular(2, 1, 3),
    () => random.chiSquare(0),
    () => random.chiSquare(1, -1),
    () => random.studentT(-1),
    () => random.wald(0, 1),
    () => random.vonMises(0, -1),
    () => random.beta(0, 1),
    () => random.negativeBinomial(0, 0.5),
    () => random.hypergeometric(1, 2, 4),
    () => random.hypergeometric(1.5, 2, 1),
    () => random.logSeries(1),
    () => random.zipf(1),
    () => random.multinomial(3, [0, 0]),
    () => random.multinomial(3, [1, -1]),
    () => random.multivariateHypergeometric([1, 2], 4),
    () => random.dirichlet([1, 0]),
    () => random.multivariateGaussian([0, 0], [[1, 2], [2, 1]]), // biome-ignore format: a matrix
    () => random.multivariateGaussian([0, 0], [[1, 0.5], [0.2, 1]]), // biome-ignore format: a matrix
    () => random.multivariateGaussian([0], [[1, 0], [0, 1]]), // biome-ignore format: a matrix
  ])
    expect(wrong).toThrow(RangeError);
});
