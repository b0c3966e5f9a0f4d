import { describe, expect, it } from 'vitest';
import { HealthTests } from '../../src/entropy/health.ts';
import { LagTest, lagCutoffs } from '../../src/entropy/lag-test.ts';
import { seededNoise } from '../lab/seeded.ts';

describe('the lag test', () => {
  it('leaves a random source alone', () => {
    const noise = seededNoise(2);
    const tests = new HealthTests(1);
    for (let i = 0; i < 200; i++) tests.accept(noise(1024));
    expect(tests).toMatchObject({ state: 'healthy', failures: 0 });
  });

  it.each([2, 3, 7, 8])('hears a period of %d that no other test hears', (period) => {
    const samples = Uint8Array.from({ length: 2048 }, (_, i) => 29 * (i % period));
    const others = new HealthTests(0.3, { lag: false });
    others.accept(samples);
    expect(others.state).toBe('healthy');
    const tests = new HealthTests(0.3);
    tests.accept(samples);
    expect(tests).toMatchObject({ state: 'expelled', lastAlarm: 'lag prediction' });
  });

  it.each([1, 3, 100])('hears a ramp of %d, across any pieces', (step) => {
    const tests = new HealthTests(0.5);
    for (let i = 0; i < 2048; i += 64)
      tests.accept(Uint8Array.from({ length: 64 }, (_, j) => (step * (i + j)) & 0xff));
    expect(tests).toMatchObject({ state: 'expelled', lastAlarm: 'lag prediction' });
  });

  it('counts right guesses in a window and in a row', () => {
    const test = new LagTest();
    expect(test.test(new Uint8Array(500))).toEqual({ inWindow: 492, inRow: 492 });
    test.restart();
    expect(test.test(new Uint8Array(8))).toEqual({ inWindow: 0, inRow: 0 });
  });

  it('has cutoffs that follow from the entropy, and none that no source could reach', () => {
    expect(lagCutoffs(1, 30).inRow).toBe(31);
    expect(lagCutoffs(1, 30).inWindow).toBeGreaterThan(512);
    expect(lagCutoffs(1, 60).inWindow).toBeGreaterThan(lagCutoffs(1, 30).inWindow);
    expect(lagCutoffs(0.001, 60).inWindow).toBe(1024);
  });
});
