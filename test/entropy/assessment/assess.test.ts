import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assess } from '../../../src/entropy/assessment/assess.ts';
import { commonPrefixes, suffixArray } from '../../../src/entropy/assessment/suffixes.ts';
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
  it.skipIf(why !== '').for([
    ['rand8_short', 8, 17],
    ['rand1_short', 1, 10],
    ['ringOsc-nist', 1, 10],
    ['biased-random-bytes', 8, 17],
    ['normal', 8, 17],
    ['truerand_8bit', 8, 17],
  ] as const)(
    `gives the estimates of the reference implementation for %s${why}`,
    { timeout: 900_000 },
    ([name, width, count], context) => {
      const long = !['rand8_short', 'rand1_short', 'ringOsc-nist'].includes(name);
      context.skip(
        long && process.env.ESOTERIC_LONG === undefined,
        'a million samples take ten seconds: npm run test:chaos',
      );
      const { minEntropy, estimates } = assess(readFileSync(`${vectors}${name}.bin`), width);
      const result = readFileSync(`${vectors}${name}.res`, 'utf8');
      expect(Object.keys(estimates)).toHaveLength(count);
      for (const [estimator, value] of Object.entries(estimates)) {
        const [kind = '', ...rest] = estimator.split(' ');
        const title = `${kind[0]?.toUpperCase()}${kind.slice(1)} ${reference[rest.join(' ')]}`;
        const line = result.match(`\n${title} Estimate: min entropy = (\\S+)\n`);
        expect(Math.abs(value - Number(line?.[1])), title).toBeLessThan(1e-6);
      }
      expect(Math.abs(minEntropy - Number(/Assessed min entropy: (\S+)/.exec(result)?.[1]))).toBeLessThan(
        1e-6,
      );
    },
  );

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

describe('the suffix array', () => {
  it('sorts all suffixes, of texts of any kind, and counts what neighbours share', () => {
    const texts = fc.oneof(
      fc.uint8Array({ max: 3, maxLength: 80 }),
      fc.uint8Array({ maxLength: 80 }),
      fc
        .tuple(fc.uint8Array({ max: 2, minLength: 1, maxLength: 6 }), fc.integer({ min: 1, max: 12 }))
        .map(([part, times]) => Uint8Array.from(Array.from({ length: times }, () => [...part]).flat())),
    );
    fc.assert(
      fc.property(texts, (text) => {
        const suffix = (at: number): Buffer => Buffer.from(text.subarray(at));
        const order = suffixArray(text, 256);
        expect([...order]).toEqual([...text.keys()].sort((a, b) => Buffer.compare(suffix(a), suffix(b))));
        const common = commonPrefixes(text, order);
        for (let i = 1; i < order.length; i++) {
          const [one, other] = [suffix(order[i - 1] ?? 0), suffix(order[i] ?? 0)];
          const shared = common[i] ?? 0;
          expect(one.subarray(0, shared)).toEqual(other.subarray(0, shared));
          expect(one[shared] === undefined || one[shared] !== other[shared]).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });
});
