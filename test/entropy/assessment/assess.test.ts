import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { assess } from '../../../src/entropy/assessment/assess.ts';
import { tuples } from '../../../src/entropy/assessment/tuples.ts';

const vectors = fileURLToPath(new URL('../../../../shared/vectors/nist-90b/', import.meta.url));
const why = existsSync(vectors) ? '' : ` (skipped: no reference vectors in ${vectors})`;

/** The reference implementation's names of the estimators. */
const reference: Record<string, string> = {
  'most common value': 'Most Common Value',
  collision: 'Collision',
  Markov: 'Markov',
  compression: 'Compression',
  't-tuple': 't-Tuple',
  'longest repeated substring': 'LRS',
  'multi most common in window': 'MultiMCW Prediction',
  lag: 'Lag Prediction',
  'multi Markov model': 'MultiMMC Prediction',
  LZ78Y: 'LZ78Y Prediction',
};

describe('the assessment of SP 800-90B', () => {
  it.skipIf(why !== '').each([
    ['rand8_short', 8, 17],
    ['rand1_short', 1, 10],
  ] as const)(`gives the estimates of the reference implementation for %s${why}`, (name, width, count) => {
    const { minEntropy, estimates } = assess(readFileSync(`${vectors}${name}.bin`), width);
    const result = readFileSync(`${vectors}${name}.res`, 'utf8');
    expect(Object.keys(estimates)).toHaveLength(count);
    for (const [estimator, value] of Object.entries(estimates)) {
      const [kind = '', ...rest] = estimator.split(' ');
      const title = `${kind[0]?.toUpperCase()}${kind.slice(1)} ${reference[rest.join(' ')]}`;
      const line =
        result.match(`^${title} Estimate: min entropy = (\\S+)$`) ??
        result.match(`\n${title} Estimate: min entropy = (\\S+)\n`);
      expect(value, title).toBeCloseTo(Number(line?.[1]), 6);
    }
    expect(minEntropy).toBeCloseTo(Number(/Assessed min entropy: (\S+)/.exec(result)?.[1]), 6);
  });

  it('grants a constant source nothing', () => {
    expect(assess(new Uint8Array(3000).fill(7)).minEntropy).toBeLessThan(0.01);
  });

  it('grants a source that counts nothing, although every value is equally common', () => {
    const { minEntropy, estimates } = assess(Uint8Array.from({ length: 3000 }, (_, i) => i & 0xff));
    expect(estimates['literal most common value']).toBeGreaterThan(7);
    expect(minEntropy).toBeLessThan(0.05);
  });

  it('grants a source that repeats an old sample now and then less than its most common value says', () => {
    const samples = new Uint8Array(3000);
    for (const i of samples.keys())
      samples[i] = i % 3 === 0 ? (samples[i - 40] ?? 0) : (Math.imul(i, 0x9e37_79b1) >>> 23) & 0xff;
    const { minEntropy, estimates } = assess(samples);
    expect(minEntropy).toBeLessThan((estimates['literal most common value'] ?? 0) / 2);
  });

  it('finds no repeated substring where there is none', () => {
    expect(tuples(Uint8Array.from({ length: 200 }, (_, i) => i)).longestRepeat).toBeUndefined();
  });
});
