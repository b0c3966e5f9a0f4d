import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Cause, observedCauses } from '../../src/interlock/causes.ts';
import {
  evaluate,
  nothingSeen,
  type Rule,
  type Standing,
  type Verdict,
} from '../../src/interlock/evaluate.ts';

const rule = (change: Partial<Rule> = {}): Rule => ({
  level: 'lock',
  debounceMilliseconds: 0,
  threshold: 1,
  ...change,
});

/** The verdicts over a row of [value, milliseconds]. */
function verdicts(given: Rule, ...row: readonly (readonly [number, number])[]): Verdict[] {
  let standing = nothingSeen;
  return row.map(([value, at]) => {
    const result = evaluate(given, standing, { cause: 'clock-set-back', value, at });
    standing = result.standing;
    return result.verdict;
  });
}

describe('an observed cause', () => {
  it.each([
    [
      'strikes once, and again only as one more',
      rule(),
      [
        [1, 0],
        [1, 9],
        [0, 10],
        [1, 11],
      ],
      ['strike', 'nothing', 'over', 'also'],
    ],
    [
      'is told once for each spell',
      rule({ level: 'none' }),
      [
        [1, 0],
        [3, 9],
        [0, 10],
        [1, 11],
      ],
      ['tell', 'nothing', 'over', 'tell'],
    ],
    [
      'must last as long as the policy says',
      rule({ debounceMilliseconds: 10 }),
      [
        [1, 0],
        [1, 9],
        [1, 10],
      ],
      ['waiting', 'waiting', 'strike'],
    ],
    [
      'begins to last anew when it was over',
      rule({ debounceMilliseconds: 10 }),
      [
        [1, 0],
        [0, 9],
        [1, 10],
        [1, 20],
      ],
      ['waiting', 'over', 'waiting', 'strike'],
    ],
    [
      'counts from its threshold on',
      rule({ threshold: 2.5 }),
      [
        [2.4, 0],
        [2.5, 1],
      ],
      ['nothing', 'strike'],
    ],
    [
      'is as bad as can be when its value is no number',
      rule({ threshold: 9 }),
      [[Number.NaN, 0]],
      ['strike'],
    ],
    [
      'is nothing at zero, whatever the threshold',
      rule({ threshold: 0 }),
      [
        [0, 0],
        [0.1, 1],
      ],
      ['nothing', 'strike'],
    ],
  ] as const)('%s', (_, given, row, expected) => {
    expect(verdicts(given, ...row)).toEqual(expected);
  });

  it('is judged as a plain oracle judges it that keeps the whole history', () => {
    const level = fc.constantFrom('lock' as const, 'none' as const);
    const rules = fc.array(
      fc.record({ level, debounceMilliseconds: fc.nat(20), threshold: fc.integer({ min: 1, max: 3 }) }),
      { minLength: observedCauses.length, maxLength: observedCauses.length },
    );
    const steps = fc.array(
      fc.record({ cause: fc.constantFrom(...observedCauses), value: fc.nat(4), wait: fc.nat(15) }),
      { maxLength: 25 },
    );
    fc.assert(
      fc.property(rules, steps, (given, row) => {
        let at = 0;
        let standing: Standing = nothingSeen;
        const history: Entry[] = [];
        for (const { cause, value, wait } of row) {
          at += wait;
          const judged = given[observedCauses.indexOf(cause)] ?? rule();
          const result = evaluate(judged, standing, { cause, value, at });
          standing = result.standing;
          expect(result.verdict).toBe(oracle(judged, history, { cause, value, at }));
          history.push({ cause, value, at, verdict: result.verdict });
        }
      }),
      { numRuns: 500 },
    );
  });
});

interface Entry {
  readonly cause: Cause;
  readonly value: number;
  readonly at: number;
  readonly verdict?: Verdict;
}

/** Looks back over everything that was seen, each time. */
function oracle(
  { level, debounceMilliseconds, threshold }: Rule,
  history: readonly Entry[],
  now: Entry,
): Verdict {
  const mine = history.filter(({ cause }) => cause === now.cause);
  const lastGood = mine.findLastIndex(({ value }) => value < threshold);
  const spell = mine.slice(lastGood + 1);
  if (now.value < threshold) return spell.length > 0 ? 'over' : 'nothing';
  if (spell.some(({ verdict }) => verdict === 'tell' || verdict === 'strike' || verdict === 'also'))
    return 'nothing';
  if (now.at - (spell[0]?.at ?? now.at) < debounceMilliseconds) return 'waiting';
  if (level === 'none') return 'tell';
  return history.some(({ verdict }) => verdict === 'strike') ? 'also' : 'strike';
}
