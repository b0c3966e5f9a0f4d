import fc from 'fast-check';
import { expect, it } from 'vitest';
import { severities, severityCode } from '../../src/alerts/alert.ts';
import { toGiveUp, type Waiting } from '../../src/alerts/limits.ts';

const now = 1_000_000;
const item = (at: number, severity: Waiting['severity'], more: Partial<Waiting> = {}): Waiting => ({
  bytes: 10,
  at,
  severity,
  copied: false,
  ...more,
});
const limits = (bytes: number, ageMilliseconds = Number.POSITIVE_INFINITY) => ({ bytes, ageMilliseconds });
const given = (waiting: readonly Waiting[], bytes: number, age?: number) =>
  toGiveUp(waiting, limits(bytes, age), now).map(({ item: { at }, why }) => [at, why]);

it('nothing goes while all fits and is young', () => {
  expect(given([item(1, 'debug'), item(2, 'critical')], 20)).toEqual([]);
});

it('what lies elsewhere goes first, then what matters least, then what is oldest', () => {
  const waiting = [
    item(1, 'critical'),
    item(2, 'notice'),
    item(3, 'notice'),
    item(4, 'emergency', { copied: true }),
    item(5, 'critical'),
  ];
  expect(given(waiting, 10).map(([at]) => at)).toEqual([4, 2, 3, 1]);
  expect(given(waiting, 0).map(([at]) => at)).toEqual([4, 2, 3, 1]);
});

it('by age goes what is ordinary or lies elsewhere; a security event that lies nowhere else stays', () => {
  const waiting = [
    item(1, 'notice'),
    item(2, 'critical'),
    item(3, 'critical', { copied: true }),
    item(now, 'debug'),
  ];
  expect(given(waiting, 1000, 100)).toEqual([
    [3, 'age'],
    [1, 'age'],
  ]);
});

it('whatever waits: it fits afterwards but for the last, and no security event goes before an ordinary one by size', () => {
  const waiting = fc.array(
    fc.record({
      bytes: fc.nat(50),
      at: fc.nat(now),
      severity: fc.constantFrom(...severities),
      copied: fc.boolean(),
    }),
    { maxLength: 12 },
  );
  fc.assert(
    fc.property(waiting, fc.nat(300), fc.nat(now), (all, bytes, age) => {
      const gone = toGiveUp(all, limits(bytes, age), now);
      const left = all.filter((one) => !gone.some((each) => each.item === one));
      expect(left.length === 1 || left.reduce((sum, one) => sum + one.bytes, 0) <= bytes).toBe(true);
      for (const { item: one, why } of gone) {
        if (why !== 'size') continue;
        for (const kept of left) {
          expect(Number(kept.copied) <= Number(one.copied)).toBe(true);
          if (kept.copied === one.copied)
            expect(severityCode(kept.severity)).toBeLessThanOrEqual(severityCode(one.severity));
        }
      }
    }),
  );
});
