// What a report shows of samples: frequencies, autocorrelation, spectrum. For looking at; credit comes from assessments.

export interface Analysis {
  readonly samples: number;
  readonly distinct: number;
  readonly mean: number;
  readonly deviation: number;
  /** Shannon entropy in bits a sample: what no single guess is about, so never a credit. */
  readonly shannon: number;
  readonly mostCommon: { readonly value: number; readonly share: number };
  /** How often each value occurs. */
  readonly histogram: readonly number[];
  /** At lags 1 and up; beyond +-2/sqrt(n) once in twenty by chance. */
  readonly autocorrelation: readonly number[];
  /** Power by frequency, from just above 0 to half the sampling rate; 1 is the mean. */
  readonly spectrum: readonly number[];
}

const lags = 64;
const segment = 512;

export function analyse(samples: Uint8Array): Analysis {
  const histogram = new Array<number>(256).fill(0);
  for (const sample of samples) histogram[sample] = (histogram[sample] ?? 0) + 1;
  const { length } = samples;
  const mean = samples.reduce((sum, sample) => sum + sample, 0) / length;
  const variance = samples.reduce((sum, sample) => sum + (sample - mean) ** 2, 0) / length;
  const most = Math.max(...histogram);
  return {
    samples: length,
    distinct: histogram.filter((count) => count > 0).length,
    mean,
    deviation: Math.sqrt(variance),
    shannon: histogram.reduce((sum, n) => (n === 0 ? sum : sum - (n / length) * Math.log2(n / length)), 0),
    mostCommon: { value: histogram.indexOf(most), share: most / length },
    histogram,
    autocorrelation: Array.from({ length: Math.min(lags, length - 1) }, (_, i) =>
      correlationAt(samples, i + 1, mean, variance),
    ),
    spectrum: spectrumOf(samples, mean),
  };
}

function correlationAt(samples: Uint8Array, lag: number, mean: number, variance: number): number {
  if (variance === 0) return 1;
  let sum = 0;
  for (let i = lag; i < samples.length; i++)
    sum += ((samples[i] as number) - mean) * ((samples[i - lag] as number) - mean);
  return sum / (samples.length - lag) / variance;
}

/** The mean of the periodograms of segments (Bartlett's method), by a fast Fourier transform. */
function spectrumOf(samples: Uint8Array, mean: number): number[] {
  const segments = Math.floor(samples.length / segment);
  const power = new Float64Array(segment / 2);
  for (let s = 0; s < segments; s++) {
    const real = Float64Array.from(
      { length: segment },
      (_, i) => (samples[s * segment + i] as number) - mean,
    );
    const imaginary = new Float64Array(segment);
    transform(real, imaginary);
    for (let k = 1; k <= segment / 2; k++)
      power[k - 1] = (power[k - 1] as number) + (real[k] as number) ** 2 + (imaginary[k] as number) ** 2;
  }
  const whole = power.reduce((sum, value) => sum + value, 0) / power.length;
  return [...power].map((value) => (whole === 0 ? 0 : value / whole));
}

/** In place, of a length that is a power of two (Cooley and Tukey, 1965). */
function transform(real: Float64Array, imaginary: Float64Array): void {
  const { length } = real;
  for (let i = 1, j = 0; i < length; i++) {
    let bit = length >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    [real[i], real[j]] = [real[j] as number, real[i] as number];
    [imaginary[i], imaginary[j]] = [imaginary[j] as number, imaginary[i] as number];
  }
  for (let size = 2; size <= length; size <<= 1) {
    const angle = (-2 * Math.PI) / size;
    for (let from = 0; from < length; from += size) {
      for (let k = 0; k < size / 2; k++) {
        const [cos, sin] = [Math.cos(angle * k), Math.sin(angle * k)];
        const [low, high] = [from + k, from + k + size / 2];
        const re = (real[high] as number) * cos - (imaginary[high] as number) * sin;
        const im = (real[high] as number) * sin + (imaginary[high] as number) * cos;
        real[high] = (real[low] as number) - re;
        imaginary[high] = (imaginary[low] as number) - im;
        real[low] = (real[low] as number) + re;
        imaginary[low] = (imaginary[low] as number) + im;
      }
    }
  }
}
