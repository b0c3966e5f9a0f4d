// The other continuous distributions that NumPy's Generator has, each of its standard form made from uniform floats, exponentials,
// normals and gammas. Parameters are checked; each method says its domain.
import { Distributions, require } from './distributions.ts';

export abstract class ContinuousDistributions extends Distributions {
  /** Whose logarithm is normal, of that mean and deviation (not negative). */
  logNormal(mean = 0, deviation = 1): number {
    return Math.exp(this.gaussian(mean, deviation));
  }

  /** Of a location and a scale (not negative). */
  laplace(location = 0, scale = 1): number {
    requireScale(scale);
    const distance = scale * this.exponential();
    return this.float() < 0.5 ? location - distance : location + distance;
  }

  /** Of a location and a scale (not negative). */
  logistic(location = 0, scale = 1): number {
    requireScale(scale);
    const u = this.#positive();
    return location + scale * (Math.log(u) - Math.log1p(-u));
  }

  /** The largest of many: of a location and a scale (not negative). */
  gumbel(location = 0, scale = 1): number {
    requireScale(scale);
    return location - scale * Math.log(-Math.log(this.#positive()));
  }

  /** Standard: of location 0 and scale 1. */
  cauchy(): number {
    return Math.tan(Math.PI * (this.float() - 0.5));
  }

  /** Pareto's of the second kind, from 0 (Lomax), of a shape above 0; with 1 added, the classical one of least value 1. */
  pareto(shape: number): number {
    require(shape > 0, 'the shape is above 0');
    return Math.expm1(this.exponential() / shape);
  }

  /** In [0, 1], of density a x^(a - 1), a above 0. */
  power(a: number): number {
    require(a > 0, 'the exponent is above 0');
    return (1 - this.float()) ** (1 / a);
  }

  /** Of a scale (not negative). */
  rayleigh(scale = 1): number {
    requireScale(scale);
    return scale * Math.sqrt(2 * this.exponential());
  }

  /** Of a shape above 0, of scale 1. */
  weibull(shape: number): number {
    require(shape > 0, 'the shape is above 0');
    return this.exponential() ** (1 / shape);
  }

  /** From `left` to `right`, the likeliest value `mode` between them. */
  triangular(left: number, mode: number, right: number): number {
    require(left <= mode && mode <= right && left < right, 'left, mode and right are in order');
    const u = this.float();
    const width = right - left;
    return u < (mode - left) / width
      ? left + Math.sqrt(u * width * (mode - left))
      : right - Math.sqrt((1 - u) * width * (right - mode));
  }

  /** Of degrees of freedom above 0; with `noncentrality` (not negative) the noncentral one. */
  chiSquare(freedom: number, noncentrality = 0): number {
    require(freedom > 0, 'the degrees of freedom are above 0');
    require(noncentrality >= 0, 'the noncentrality is not negative');
    if (noncentrality === 0) return 2 * this.gamma(freedom / 2);
    if (freedom > 1) return 2 * this.gamma((freedom - 1) / 2) + this.gaussian(Math.sqrt(noncentrality)) ** 2;
    const shape = freedom / 2 + this.poisson(noncentrality / 2);
    return 2 * this.gamma(shape);
  }

  /** Fisher's, of degrees of freedom above 0; with `noncentrality` (not negative) the noncentral one. */
  fisher(numerator: number, denominator: number, noncentrality = 0): number {
    const above = this.chiSquare(numerator, noncentrality) / numerator;
    return above / (this.chiSquare(denominator) / denominator);
  }

  /** Student's, of degrees of freedom above 0. */
  studentT(freedom: number): number {
    return this.gaussian() / Math.sqrt(this.chiSquare(freedom) / freedom);
  }

  /** The inverse Gaussian, of a mean and a scale above 0 (Michael, Schucany and Haas, 1976). */
  wald(mean: number, scale: number): number {
    require(mean > 0 && scale > 0, 'mean and scale are above 0');
    const y = mean * this.gaussian() ** 2;
    // The smaller root of their equation, in a form in which nothing cancels.
    const x = mean * (1 - 2 / (1 + Math.sqrt(1 + (4 * scale) / y)));
    return this.float() * (mean + x) < mean ? x : mean * (mean / x);
  }

  /** An angle in [-pi, pi] around `mean`, of a concentration that is not negative (Best and Fisher, 1979). */
  vonMises(mean: number, concentration: number): number {
    require(concentration >= 0, 'the concentration is not negative');
    // Above this the wrapped normal is the same to the last digits of a float, and the quotients below lose them.
    const narrow = 1e6;
    if (concentration === 0) return this.uniform(-Math.PI, Math.PI);
    if (concentration > narrow) return wrapped(mean + this.gaussian() / Math.sqrt(concentration));
    const tau = 1 + Math.sqrt(1 + 4 * concentration ** 2);
    const rho = (tau - Math.sqrt(2 * tau)) / (2 * concentration);
    const r = concentration < 1e-5 ? 1 / concentration + concentration : (1 + rho ** 2) / (2 * rho);
    for (;;) {
      const z = Math.cos(Math.PI * this.float());
      const w = (1 + r * z) / (r + z);
      const y = concentration * (r - w);
      const v = 1 - this.float();
      if (y * (2 - y) < v && Math.log(y / v) + 1 < y) continue;
      const angle = Math.acos(Math.min(1, Math.max(-1, w)));
      return wrapped(this.float() < 0.5 ? mean - angle : mean + angle);
    }
  }

  /** In (0, 1). */
  #positive(): number {
    for (;;) {
      const u = this.float();
      if (u > 0) return u;
    }
  }
}

const requireScale = (scale: number): void => require(scale >= 0, 'the scale is not negative');

const wrapped = (angle: number): number =>
  Math.abs(angle) <= Math.PI ? angle : angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));
