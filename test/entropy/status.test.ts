import { describe, expect, it } from 'vitest';
import { noiseHasFailed, poolState } from '../../src/entropy/status.ts';

const well = { zeroized: false, stopped: false, seeded: true, fresh: true, paused: false };
const healthy = [{ state: 'healthy', credit: 1 }] as const;

describe('the state of the pool', () => {
  it.each([
    ['serving', { ...well, sources: healthy }],
    ['paused', { ...well, paused: true, sources: healthy }],
    ['seeding', { ...well, seeded: false, fresh: false, sources: [{ state: 'starting', credit: 1 }] }],
    ['unhealthy', { ...well, seeded: false, fresh: false, sources: [{ state: 'expelled', credit: 1 }] }],
    ['degraded', { ...well, sources: [{ state: 'failed', credit: 1 }] }],
    ['degraded', { ...well, sources: [{ state: 'healthy', credit: 0 }] }],
    // 8192 samples in its ring are less than a seed needs.
    ['degraded', { ...well, sources: [{ state: 'healthy', credit: 0.02 }] }],
    ['degraded', { ...well, paused: true, sources: [{ state: 'healthy', credit: 0.02 }] }],
    ['serving', { ...well, sources: Array(3).fill({ state: 'healthy', credit: 0.02 }) }],
    [
      'degraded',
      {
        ...well,
        sources: [
          { state: 'healthy', credit: 0.02 },
          { state: 'failed', credit: 1 },
        ],
      },
    ],
    ['unhealthy', { ...well, seeded: false, fresh: false, sources: [{ state: 'starting', credit: 0.02 }] }],
    ['degraded', { ...well, paused: true, sources: [{ state: 'expelled', credit: 1 }] }],
    ['unhealthy', { ...well, fresh: false, sources: healthy }],
    ['stopped', { ...well, stopped: true, sources: healthy }],
    ['zeroized', { ...well, zeroized: true, stopped: true, sources: healthy }],
  ] as const)('is %s', (state, facts) => {
    expect(poolState(facts)).toBe(state);
  });

  it('is a failure of noise only where no window keeps it from being collected', () => {
    expect(noiseHasFailed({ state: 'unhealthy' })).toBe(true);
    expect(noiseHasFailed({ state: 'unhealthy', pausedFor: 'maintenance: long works' })).toBe(false);
    expect(noiseHasFailed({ state: 'degraded' })).toBe(false);
  });
});
