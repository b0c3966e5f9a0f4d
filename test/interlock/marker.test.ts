import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { causeNumber, causes, levels } from '../../src/interlock/causes.ts';
import {
  isOfThisLife,
  lastingStages,
  Marker,
  parseMarker,
  readMarker,
  removeMarker,
} from '../../src/interlock/marker.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-marker-'));
const statePath = join(directory, 'state.json');
afterAll(() => rmSync(directory, { recursive: true }));

describe('the mark of a zeroize under way', () => {
  it('is there from the end of the memory stage to the end of the last, and says how far it came', () => {
    writeFileSync(statePath, '{"state":"sealed","since":"then"}');
    using marker = new Marker(statePath);
    expect(statSync(join(directory, 'zeroizing')).mode & 0o777).toBe(0o600);
    expect(readMarker(statePath)).toBeUndefined();
    marker.begin(causeNumber('link-flap'), 'lock');
    expect(readMarker(statePath)).toMatchObject({ cause: 'link-flap', level: 'lock', done: [] });
    marker.stageDone('kernel');
    marker.stageDone('tpm');
    expect(readMarker(statePath)?.done).toEqual(['kernel', 'tpm']);
    marker.clear();
    expect(readMarker(statePath)).toBeUndefined();
  });

  it('is of this life until an operator re-arms the node, however its clock is set', () => {
    using marker = new Marker(statePath);
    marker.begin(causeNumber('operator'), 'destroy');
    const mark = readMarker(statePath);
    if (mark === undefined) throw new Error('There is no mark.');
    expect(isOfThisLife(mark, statePath)).toBe(true);
    writeFileSync(statePath, '{"state":"sealed","since":"later"}');
    expect(isOfThisLife(mark, statePath)).toBe(false);
    removeMarker(statePath);
    removeMarker(statePath);
    expect(readMarker(statePath)).toBeUndefined();
  });

  it('goes as far as the highest level that was begun, and forgets the stages that ended before that', () => {
    const life = 'a'.repeat(64);
    const text = `link-flap purge ${life}\nkernel\ntpm\ndisk\nlink-flap destroy ${life}\ntpm\n`;
    expect(parseMarker(text)).toEqual({
      cause: 'link-flap',
      level: 'destroy',
      lifecycle: life,
      done: ['tpm'],
    });
  });

  it('fails closed: what cannot be read locks, is of this life, and has no stage done', () => {
    expect(parseMarker('link-fl')).toEqual({
      cause: 'state-unparsable',
      level: 'lock',
      lifecycle: '',
      done: [],
    });
    expect(isOfThisLife(parseMarker('\0\0\0'), statePath)).toBe(true);
  });

  it('never names a stage that was not written down whole, wherever it was cut', () => {
    const life = '0'.repeat(64);
    fc.assert(
      fc.property(
        fc.constantFrom(...causes),
        fc.constantFrom(...levels),
        fc.integer({ min: 0, max: lastingStages.length }),
        fc.nat(),
        (cause, level, stages, cut) => {
          const whole = `${cause} ${level} ${life}\n${lastingStages
            .slice(0, stages)
            .map((stage) => `${stage}\n`)
            .join('')}`;
          expect(parseMarker(whole)).toMatchObject({ cause, level, done: lastingStages.slice(0, stages) });
          const torn = parseMarker(whole.slice(0, cut % whole.length));
          expect(torn.done.length).toBeLessThanOrEqual(stages);
          expect(lastingStages.slice(0, torn.done.length)).toEqual(torn.done);
        },
      ),
    );
  });

  it('reads anything without an error', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(parseMarker(text).lifecycle).toMatch(/^([0-9a-f]{64})?$/);
      }),
    );
  });

  it('costs nothing where its file cannot be opened', () => {
    using marker = new Marker('/nonexistent/state.json');
    marker.begin(1, 'lock');
    marker.stageDone('kernel');
    marker.clear();
    expect(readFileSync(statePath, 'utf8')).toContain('later');
  });
});
