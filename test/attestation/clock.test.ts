// The TPM's clock: later is proven, earlier fails, and what the TPM itself doubts is neither.
import { describe, expect, it } from 'vitest';
import { type ClockReading, compareClock } from '../../src/attestation/clock.ts';

describe('the clock', () => {
  const reading: ClockReading = { clock: 5000n, resetCount: 2, restartCount: 3, safe: true };
  const compare = (changes: Partial<ClockReading>, previous: Parameters<typeof compareClock>[0] = reading) =>
    compareClock(previous, { ...reading, ...changes });

  it('is proven when nothing went back, and says how much later', () => {
    expect(compare({ clock: '5250' })).toEqual({
      result: 'proven',
      detail: '250 ms later than the earlier reading, with 0 TPM resets and 0 restarts since.',
    });
    expect(compare({ clock: 6000n, resetCount: 4, restartCount: 0 }).detail).toContain('2 TPM resets');
    expect(compare({}, { resetCount: 2, restartCount: 3 }).detail).toContain('Later than');
  });

  it('fails when a count or the time went back', () => {
    expect(compare({ resetCount: 1, restartCount: 9 }).result).toBe('failed');
    expect(compare({ restartCount: 2 }).result).toBe('failed');
    expect(compare({ clock: 4999n }).detail).toBe('The clock went back by 1 ms.');
    expect(compare({ clock: 'soon' }).result).toBe('failed');
    expect(compare({}, { ...reading, clock: '-1' }).result).toBe('failed');
  });

  it('is not proven when the TPM calls it unsafe or there is nothing to compare with', () => {
    expect(compare({ clock: 6000n, safe: false }).result).toBe('not-proven');
    expect(compare({ clock: 4999n, safe: false }).result).toBe('not-proven');
    expect(compare({}, null).result).toBe('not-proven');
  });
});
