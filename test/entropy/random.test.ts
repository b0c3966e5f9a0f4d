import { randomFillSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/entropy/random.ts';

const random = new Random((out) => void randomFillSync(out));
/** A generator that a test can repeat: a counter, hashed. */
function counting(start = 0): Random {
  let next = start;
  return new Random((out) => {
    for (let i = 0; i < out.length; i++) out[i] = next++ & 0xff;
  });
}
const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Counts are within six standard deviations of what they should be: wrong once in five hundred million. */
function expectShares(counts: readonly number[], shares: readonly number[]): void {
  const total = counts.reduce((sum, count) => sum + count, 0);
  for (const [i, share] of shares.entries()) {
    const spread = 6 * Math.sqrt(total * share * (1 - share));
    expect(Math.abs((counts[i] ?? 0) - total * share)).toBeLessThanOrEqual(spread);
  }
}
function expectMean(values: readonly number[], expected: number, deviation: number): void {
  expect(Math.abs(mean(values) - expected)).toBeLessThan((6 * deviation) / Math.sqrt(values.length));
}
const draw = (count: number, one: () => number): number[] => Array.from({ length: count }, one);

describe('random bytes and arrays', () => {
  it('fill any view, and only it', () => {
    const whole = new Uint8Array(100);
    random.fill(new Uint16Array(whole.buffer, 10, 40));
    expect([...whole.subarray(0, 10), ...whole.subarray(90)].every((byte) => byte === 0)).toBe(true);
    expect(new Set(whole.subarray(10, 90)).size).toBeGreaterThan(10);
    expect(random.bytes(0)).toHaveLength(0);
    expect(random.bytes(33)).toHaveLength(33);
  });

  it('come in any shape and element', () => {
    const { array, shape } = random.array('uint16', 3, 4, 5);
    expect(array).toBeInstanceOf(Uint16Array);
    expect(array).toHaveLength(60);
    expect(shape).toEqual([3, 4, 5]);
    expect(random.array('bigint64', 2).array[0]).toBeTypeOf('bigint');
    for (const [element, precision] of [
      ['float32', 2 ** 24],
      ['float64', 2 ** 53],
    ] as const) {
      const floats = [...random.array(element, 100, 20).array];
      expect(floats).toHaveLength(2000);
      expect(floats.every((value) => value >= 0 && value < 1)).toBe(true);
      expect(floats.every((value) => Number.isInteger(value * precision))).toBe(true);
      expectMean(floats, 0.5, Math.sqrt(1 / 12));
    }
    expect(() => random.array('uint8', -1)).toThrow(RangeError);
    const dice = random.sample('uint8', [50, 20], () => random.integer(1, 7));
    expect(dice.shape).toEqual([50, 20]);
    expect(new Set(dice.array)).toEqual(new Set([1, 2, 3, 4, 5, 6]));
    expect(random.sample('bigint64', [2], () => random.bigint(-5n, -4n)).array).toEqual(
      BigInt64Array.of(-5n, -5n),
    );
    expect(() => random.bytes(1.5)).toThrow(RangeError);
  });
});

describe('random integers', () => {
  it('lie in their range, whatever it is', () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.maxSafeInteger(), (a, b) => {
        const [low, high] = [Math.min(a, b), Math.max(a, b) + 1];
        if (!Number.isSafeInteger(high) || high - low > 2 ** 53) {
          expect(() => random.integer(low, high)).toThrow(RangeError);
          return;
        }
        const value = random.integer(low, high);
        expect(value).toBeGreaterThanOrEqual(low);
        expect(value).toBeLessThan(high);
      }),
    );
    expect(() => random.integer(3, 3)).toThrow(RangeError);
    expect(() => random.integer(0.5, 2)).toThrow(RangeError);
  });

  it('have no bias: what does not divide evenly is drawn again', () => {
    // 2^32 - 1 is in the incomplete last range of 3 * 2^30.
    const words = [0xffff_ffff, 0xc000_0000, 5];
    const scripted = new Random((out) => {
      const view = new DataView(out.buffer, out.byteOffset);
      for (const [i, word] of words.entries()) view.setUint32(4 * i, word);
    });
    expect(scripted.integer(0, 3 * 2 ** 30)).toBe(5);
  });

  it('are equally likely', () => {
    const counts = new Array<number>(7).fill(0);
    for (const value of random.integers(-3, 4, 70_000)) counts[value + 3] = (counts[value + 3] ?? 0) + 1;
    expectShares(counts, new Array(7).fill(1 / 7));
  });

  it('are of any size', () => {
    fc.assert(
      fc.property(fc.bigInt(), fc.bigInt({ min: 1n, max: 2n ** 200n }), (low, range) => {
        const value = random.bigint(low, low + range);
        expect(value >= low && value < low + range).toBe(true);
      }),
    );
    expect(() => random.bigint(1n, 1n)).toThrow(RangeError);
  });
});

describe('random floats', () => {
  it('are multiples of 2^-53 in [0, 1)', () => {
    const values = [...random.floats(20_000)];
    expect(values.every((value) => value >= 0 && value < 1 && Number.isInteger(value * 2 ** 53))).toBe(true);
    expectMean(values, 0.5, Math.sqrt(1 / 12));
    expect(new Random((out) => void out.fill(255)).float()).toBe(1 - 2 ** -53);
    expect(new Random((out) => void out.fill(0)).float()).toBe(0);
  });

  it.each([
    ['uniform', () => random.uniform(2, 6), 4, Math.sqrt(16 / 12)],
    ['gaussian', () => random.gaussian(3, 2), 3, 2],
    ['exponential', () => random.exponential(4), 4, 4],
    ['gamma', () => random.gamma(2.5, 2), 5, Math.sqrt(10)],
    ['gamma of a small shape', () => random.gamma(0.4), 0.4, Math.sqrt(0.4)],
    ['beta', () => random.beta(2, 3), 0.4, 0.2],
    ['poisson', () => random.poisson(3), 3, Math.sqrt(3)],
    ['poisson of a large mean', () => random.poisson(500), 500, Math.sqrt(500)],
    ['binomial', () => random.binomial(20, 0.3), 6, Math.sqrt(4.2)],
    ['binomial of many trials', () => random.binomial(10_000, 0.7), 7000, Math.sqrt(2100)],
    ['geometric', () => random.geometric(0.25), 4, Math.sqrt(12)],
  ] as const)('have the mean and the spread of their distribution: %s', (_, one, expected, deviation) => {
    const values = draw(20_000, one);
    expectMean(values, expected, deviation);
    const spread = Math.sqrt(mean(values.map((value) => (value - expected) ** 2)));
    expect(spread / deviation).toBeGreaterThan(0.85);
    expect(spread / deviation).toBeLessThan(1.15);
  });

  it('refuse parameters outside of their domain', () => {
    for (const wrong of [
      () => random.gaussian(0, -1),
      () => random.exponential(0),
      () => random.gamma(0),
      () => random.poisson(-1),
      () => random.binomial(1.5, 0.5),
      () => random.binomial(3, 2),
      () => random.geometric(0),
    ])
      expect(wrong).toThrow(RangeError);
    expect(random.geometric(1)).toBe(1);
    expect(random.binomial(1000, 1)).toBe(1000);
    expect(random.binomial(1000, 0)).toBe(0);
    expect(random.gaussians(3)).toHaveLength(3);
  });
});

describe('choosing and shuffling', () => {
  it('chooses without replacement each item at most once, every subset equally likely', () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 12_000; i++) {
      const key = random.choices(['a', 'b', 'c', 'd'], 2).sort().join('');
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    expectShares([...counts.values()], new Array(6).fill(1 / 6));
    expect(() => random.choices([1, 2], 3)).toThrow(RangeError);
    expect(() => random.choice([])).toThrow(RangeError);
  });

  it('chooses by weight', () => {
    const counts = [0, 0, 0];
    for (const item of random.choices([0, 1, 2], 30_000, { replace: true, weights: [1, 0, 3] }))
      counts[item] = (counts[item] ?? 0) + 1;
    expectShares(counts, [0.25, 0, 0.75]);
    expect(() => random.choice([1, 2], { weights: [1] })).toThrow(RangeError);
    expect(() => random.choice([1, 2], { weights: [0, 0] })).toThrow(RangeError);
    expect(() => random.choice([1, 2], { weights: [1e308, 1e308] })).toThrow(RangeError);
  });

  it('chooses by weight without replacement: each in its turn, of those that are left', () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 30_000; i++) {
      const key = random.choices(['a', 'b', 'c', 'd'], 2, { weights: [1, 2, 0, 3] }).join('');
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const keys = ['ab', 'ad', 'ba', 'bd', 'da', 'db'];
    expect([...counts.keys()].sort()).toEqual(keys);
    // The first by its share of six, the second by its share of what is left.
    const shares = [2 / 5, 3 / 5, 1 / 4, 3 / 4, 1 / 3, 2 / 3].map(
      (second, i) => (second * ([1, 1, 2, 2, 3, 3][i] ?? 0)) / 6,
    );
    expectShares(
      keys.map((key) => counts.get(key) ?? 0),
      shares,
    );
    expect(random.choices(['a', 'b', 'c'], 2, { weights: [1, 0, 1] }).sort()).toEqual(['a', 'c']);
    expect(random.choices(['a', 'b'], 0, { weights: [1, 1] })).toEqual([]);
    expect(() => random.choices(['a', 'b', 'c'], 3, { weights: [1, 0, 1] })).toThrow(RangeError);
  });

  it('permutes along an axis: slices whole, or each line by itself', () => {
    const values = { array: Uint8Array.from({ length: 24 }, (_, i) => i), shape: [2, 3, 4] };
    const at = (array: Uint8Array, i: number, j: number, k: number) => array[12 * i + 4 * j + k] ?? -1;
    const count = (orders: Map<string, number>, key: string) => orders.set(key, (orders.get(key) ?? 0) + 1);
    const slices = new Map<string, number>();
    for (let n = 0; n < 1200; n++) {
      const { array } = random.permuteSlices(values, 1);
      const order = [0, 1, 2].map((j) => Math.floor(at(array, 0, j, 0) / 4));
      const whole = array.every(
        (value, n) =>
          value === at(values.array, Math.floor(n / 12), order[Math.floor(n / 4) % 3] ?? -1, n % 4),
      );
      count(slices, whole ? order.join('') : 'torn');
    }
    expect([...slices.keys()].sort()).toEqual(['012', '021', '102', '120', '201', '210']);
    expectShares([...slices.values()], new Array(6).fill(1 / 6));

    const lines = new Map<string, number>();
    for (let n = 0; n < 3600; n++) {
      const { array } = random.permuteEach(values, 1);
      const order = (i: number, k: number) =>
        [0, 1, 2].map((j) => (at(array, i, j, k) - 12 * i - k) / 4).join('');
      count(lines, `${order(0, 0)} ${order(1, 3)}`);
    }
    expect(lines.size).toBe(36); // Two lines, independently.
    expectShares([...lines.values()], new Array(36).fill(1 / 36));
    expect([...random.permuteEach(values, 2).array].sort((a, b) => a - b)).toEqual([...values.array]);
    expect([...values.array]).toEqual([...values.array].sort((a, b) => a - b)); // Not changed.
    expect(() => random.permuteEach(values, 3)).toThrow(RangeError);
    expect(() => random.permuteSlices(values, -1)).toThrow(RangeError);
  });

  it('shuffles so that every order is equally likely, arrays of any kind', () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 24_000; i++) {
      const key = random.permutation(['a', 'b', 'c', 'd']).join('');
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    expectShares([...counts.values()], new Array(24).fill(1 / 24));
    expect([...random.shuffle(Uint8Array.of(1, 2, 3))].sort()).toEqual([1, 2, 3]);
    expect(random.permutation(5).sort()).toEqual([0, 1, 2, 3, 4]);
  });
});

describe('the supply', () => {
  it('is used in order, each byte once', () => {
    const numbers = counting();
    expect(numbers.uint32()).toBe(0x0001_0203);
    expect(numbers.uint32()).toBe(0x0405_0607);
    expect([true, false]).toContain(numbers.boolean());
  });

  it('is asked before each value whether it may still be given, also in the middle of a block', () => {
    let closed = false;
    const guarded = new Random(
      (out) => void randomFillSync(out),
      () => {
        if (closed) throw new Error('closed');
      },
    );
    guarded.uint32();
    guarded.gaussian(); // Made with another one, which waits for the next call.
    closed = true;
    expect(() => guarded.uint32()).toThrow('closed');
    expect(() => guarded.gaussian()).toThrow('closed');
  });
});
