import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { Lifecycle, unprovisioned } from '../../src/keys/lifecycle.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-lifecycle-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const lifecycle = new Lifecycle(directory);
beforeEach(() => rmSync(lifecycle.path, { force: true }));

describe('the lifecycle of a node', () => {
  it('begins unprovisioned, and is sealed once that is written down', () => {
    expect(lifecycle.read()).toEqual({ state: 'unprovisioned' });
    lifecycle.markSealed();
    const { state, since } = lifecycle.read();
    expect(state).toBe('sealed');
    expect(Date.parse(since ?? '')).toBeGreaterThan(Date.now() - 60_000);
  });

  it.each([
    '',
    '{',
    'null',
    '[]',
    '"sealed"',
    '{"state":"running"}',
    '{"state":"unprovisioned"}',
    '{"state":["sealed"]}',
  ])('counts as zeroized when its file says %j', (text) => {
    writeFileSync(lifecycle.path, text);
    expect(lifecycle.read()).toEqual({ state: 'zeroized', cause: 'state-unparsable' });
  });

  it('counts as zeroized for any bytes that do not say sealed', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        writeFileSync(lifecycle.path, bytes);
        expect(lifecycle.read().state).toBe('zeroized');
      }),
      { numRuns: 200 },
    );
  });

  it('remembers cause and level of a zeroize', () => {
    const record = { state: 'zeroized', cause: 'link-flap', level: 'lock' };
    writeFileSync(lifecycle.path, JSON.stringify(record));
    expect(lifecycle.read()).toEqual(record);
  });

  it('sees at the next start that the last end was unclean', () => {
    expect(lifecycle.endedUncleanly).toBe(false);
    lifecycle.markRunning();
    expect(new Lifecycle(directory).endedUncleanly).toBe(true);
    lifecycle.clearRunning();
    expect(new Lifecycle(directory).endedUncleanly).toBe(false);
    lifecycle.clearRunning();
  });

  it('sends whoever has not provisioned to do so', () => {
    expect(unprovisioned('/x')).toMatchObject({
      code: 'unprovisioned',
      message: expect.stringContaining('/x'),
      remedy: expect.stringContaining('provision'),
    });
  });
});
