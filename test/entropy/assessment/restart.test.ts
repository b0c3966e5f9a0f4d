import { randomFillSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { examine, examineBriefly } from '../../../src/entropy/assessment/examine.ts';
import {
  type AssessmentRecord,
  creditInUse,
  expectedEntropy,
} from '../../../src/entropy/assessment/record.ts';
import { readAssessments, writeAssessment } from '../../../src/entropy/assessment/record-file.ts';
import { restartTest } from '../../../src/entropy/assessment/restart.ts';
import type { NoiseSource } from '../../../src/entropy/source.ts';
import { seededNoise } from '../../lab/seeded.ts';

const state = mkdtempSync(join(tmpdir(), 'ea-assess-'));
afterAll(() => rmSync(state, { recursive: true }));

function source(name: string, open: () => (into: Uint8Array) => number): NoiseSource {
  return {
    name,
    family: 'external',
    physical: 'a test',
    pace: 'quick',
    exercised: 'live',
    available: () => ({ ok: true }),
    open() {
      return { sample: open(), [Symbol.dispose]() {} };
    },
  };
}
const good = source('good', () => (into) => randomFillSync(into).length);
/** A generator that starts from the same seed at each opening: no estimator hears anything in one long run of it. */
const alike = source('alike', () => {
  let state = 0x2545_f491;
  return (into) => {
    for (let i = 0; i < into.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      into[i] = state >>> 11;
    }
    return into.length;
  };
});
const small = { samples: 20_000, restarts: 100, each: 100, patienceMilliseconds: 20_000 };

describe('the restart test of SP 800-90B', () => {
  it('passes random rows, and grants no more than was estimated or claimed', () => {
    const matrix = seededNoise(3)(100 * 100);
    const result = restartTest(matrix, 100, 0.5);
    expect(result).toMatchObject({ passed: true, minEntropy: 0.5, restarts: 100, samples: 100 });
    expect(result.rows).toBeGreaterThan(4);
  });

  it('fails where the first sample is the same after each restart, though every row is random', () => {
    const matrix = seededNoise(3)(100 * 100);
    for (let row = 0; row < 100; row++) matrix[row * 100 + 3] = 9;
    expect(restartTest(matrix, 100, 4)).toMatchObject({
      passed: false,
      minEntropy: 0,
      why: expect.stringContaining('100.0 %'),
    });
  });

  it('fails where rows have less than half of what was estimated', () => {
    const matrix = Uint8Array.from(
      { length: 100 * 100 },
      (_, i) => (i % 100) + 100 * (Math.floor(i / 100) % 2),
    );
    expect(restartTest(matrix, 100, 3).passed).toBe(false);
  });
});

describe('an assessment', () => {
  it('of a good source supports what is claimed', () => {
    const { record, samples } = examine(good, 0.2, small);
    expect(samples).toHaveLength(20_000);
    expect(record).toMatchObject({
      kind: 'brief', // The standard asks for a million samples.
      source: 'good',
      samples: 20_000,
      restart: { passed: true, minEntropy: 0.2 },
    });
    expect(record.minEntropy).toBeGreaterThan(4);
  });

  it('of a source that begins alike grants nothing', () => {
    const { record } = examine(alike, 4, small);
    expect(record.minEntropy).toBeGreaterThan(4);
    expect(record.restart.passed).toBe(false);
    expect(creditInUse({ credit: 4, expected: 4, reason: '', measured: '' }, record)).toBe(0);
  });

  it('fails a source that falls silent', () => {
    const silent = source('silent', () => () => 0);
    expect(() => examine(silent, 0, { ...small, patienceMilliseconds: 10 })).toThrow(
      expect.objectContaining({ code: 'source-silent' }),
    );
  });

  it('in brief is bounded more widely and still finds a broken source', () => {
    expect(examineBriefly(good, 0.2)).toMatchObject({
      kind: 'brief',
      restart: { passed: true, minEntropy: 0.2 },
    });
    const stuck = source('stuck', () => (into) => into.fill(5).length);
    const policy = { credit: 0.2, expected: 0.5, reason: '', measured: '' };
    const record = examineBriefly(stuck, 0.2);
    expect(creditInUse(policy, record)).toBeLessThan(0.02);
    expect(expectedEntropy(policy, record)).toBe(0.02);
  });
});

describe('the credit in use', () => {
  const policy = { credit: 0.3, expected: 0.5, reason: '', measured: '' };
  const record = (minEntropy: number, restart: number, passed = true): AssessmentRecord => ({
    ...examineBriefly(good, 0.2),
    minEntropy,
    restart: { restarts: 10, samples: 10, passed, minEntropy: restart, rows: 1, columns: 1 },
  });

  it.each([
    ['the policy, where both found more', record(4, 4), 0.3],
    ['the assessment, where that found less', record(0.1, 4), 0.1],
    ['the restart test, where that found less', record(4, 0.05), 0.05],
    ['nothing, where the restart test failed', record(4, 4, false), 0],
    ['nothing without an assessment', undefined, 0],
  ])('is %s', (_, made, credit) => {
    expect(creditInUse(policy, made)).toBe(credit);
  });
});

describe('assessments at rest', () => {
  const record = examineBriefly(
    source('device:/dev/x', () => (into) => randomFillSync(into).length),
    0.2,
  );

  it('are read back, on the machine that they were made on only', () => {
    const path = writeAssessment(state, record);
    expect(path).toMatch(/assessments\/device__dev_x\.json$/);
    expect(readAssessments(state).get('device:/dev/x')).toEqual(record);
    expect(readAssessments(state, 'another machine').size).toBe(0);
    expect(readAssessments(join(state, 'nothing')).size).toBe(0);
  });

  it('support nothing where they are damaged or claim more than there can be', () => {
    const path = writeAssessment(state, record);
    for (const text of [
      '',
      '{',
      JSON.stringify({ ...record, minEntropy: 9 }),
      JSON.stringify({ ...record, extra: 1 }),
    ]) {
      writeFileSync(path, text);
      expect(readAssessments(state).size).toBe(0);
      expect(readFileSync(path, 'utf8')).toBe(text);
    }
  });
});
