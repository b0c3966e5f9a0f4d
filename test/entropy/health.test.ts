import { describe, expect, it } from 'vitest';
import { cutoffs, HealthTests } from '../../src/entropy/health.ts';
import { seededNoise } from '../lab/seeded.ts';

const startUp = 1024;
const noise = seededNoise(1);

function healthy(entropy: number): HealthTests {
  const tests = new HealthTests(entropy);
  tests.accept(noise(startUp));
  expect(tests.state).toBe('healthy');
  return tests;
}

/** `length` samples of which the given share are one value. */
function biased(length: number, share: number): Uint8Array {
  return Uint8Array.from(noise(length), (byte, i) => ((i * share) % 1 < share ? 7 : byte));
}

describe('health tests of a noise source', () => {
  it('have the cutoffs of the reference implementation for 1/osr bits a sample', () => {
    // The tables of jitterentropy (crypto/jitterentropy.c): alpha 2^-30 and 2^-60, window 512.
    const intermittent = [325, 422, 459, 477, 488, 494, 499, 502, 505, 507, 508, 509, 510, 511, 512];
    const permanent = [355, 447, 479, 494, 502, 507, 510, 512, 512, 512, 512, 512, 512, 512, 512];
    for (const [i, expected] of intermittent.entries()) {
      expect(cutoffs(1 / (i + 1), 30).proportion).toBe(expected);
      expect(cutoffs(1 / (i + 1), 60).proportion).toBe(permanent[i]);
      expect(cutoffs(1 / (i + 1), 30).repetition).toBe(1 + 30 * (i + 1));
    }
  });

  it('refuse a min-entropy that no byte has', () => {
    for (const entropy of [0, -1, 8.1, Number.NaN])
      expect(() => new HealthTests(entropy)).toThrow(RangeError);
  });

  it('let nothing through before 1024 samples have passed', () => {
    const tests = new HealthTests(1);
    expect(tests.accept(noise(1000))).toBe(0);
    expect(tests.state).toBe('starting');
    expect(tests.accept(noise(100))).toBe(76);
    expect(tests.state).toBe('healthy');
    expect(tests.accept(noise(100))).toBe(100);
  });

  it('raise no alarm over 16 MiB of good samples', () => {
    const tests = healthy(4);
    for (let i = 0; i < 16; i++) expect(tests.accept(noise(1 << 20))).toBe(1 << 20);
    expect(tests.failures).toBe(0);
  });

  it('hear a value that repeats as often as the cutoff, over any number of calls, and not one less', () => {
    const { repetition } = cutoffs(1, 30);
    const below = healthy(1);
    const at = healthy(1);
    for (let i = 0; i < repetition - 1; i++) below.accept(Uint8Array.of(44));
    below.accept(Uint8Array.of(9));
    expect(below.state).toBe('healthy');
    for (let i = 0; i < repetition; i++) at.accept(Uint8Array.of(44));
    expect(at.state).toBe('failed');
    expect(at.failures).toBe(1);
  });

  it('hear a biased source that never repeats itself for long', () => {
    const tests = healthy(2);
    // 49 % of one value, every other sample: 251 of 512, above both cutoffs for 2 bits.
    expect(tests.accept(biased(4096, 0.49))).toBe(0);
    expect(tests.state).toBe('expelled');
  });

  it('try a source again after one alarm, and count a lasting alarm once', () => {
    const tests = healthy(1);
    const { repetition } = cutoffs(1, 30);
    tests.accept(new Uint8Array(repetition).fill(3));
    tests.accept(new Uint8Array(2).fill(3));
    expect(tests.state).toBe('failed');
    expect(tests.failures).toBe(1);
    expect(tests.accept(noise(startUp + 5))).toBe(5);
    expect(tests.state).toBe('healthy');
  });

  it('expel a stuck source, although it is asked for a few samples at a time, until it is restarted', () => {
    const tests = healthy(0.5);
    for (let i = 0; i < 40; i++) tests.accept(new Uint8Array(8).fill(1));
    expect(tests.state).toBe('expelled');
    expect(tests.accept(noise(5000))).toBe(0);
    tests.restart();
    expect(tests.state).toBe('starting');
    tests.accept(noise(5000));
    expect(tests.state).toBe('healthy');
  });
});
