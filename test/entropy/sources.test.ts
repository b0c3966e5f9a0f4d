import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { noiseSources } from '../../src/entropy/catalogue.ts';
import { diskTiming } from '../../src/entropy/sources/disk-timing.ts';
import { hwrng } from '../../src/entropy/sources/hwrng.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-sources-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe('noise sources', () => {
  const sources = noiseSources(directory);

  it('are at least six families of measurement that this machine has', () => {
    expect(sources.filter((source) => source.available().ok).length).toBeGreaterThanOrEqual(6);
    expect(new Set(sources.map(({ name }) => name)).size).toBe(sources.length);
  });

  it.each(sources.filter((source) => source.available().ok))(
    '$name gives raw samples that vary, each call in bounded time, and leaves no file',
    (source) => {
      using sampler = source.open();
      const samples = new Uint8Array(512);
      let count = 0;
      for (let calls = 0; count < samples.length && calls < 2000; calls++) {
        const begun = performance.now();
        const taken = sampler.sample(samples.subarray(count));
        expect(performance.now() - begun).toBeLessThan(3000);
        expect(taken).toBeLessThanOrEqual(samples.length - count);
        count += taken;
      }
      expect(count).toBeGreaterThan(0);
      if (count === samples.length) expect(new Set(samples).size).toBeGreaterThan(8);
      expect(readdirSync(directory)).toEqual([]);
    },
  );

  it('say why they are not there and what to do', () => {
    const reasons = [hwrng('/nonexistent/hwrng'), hwrng('/proc/self'), diskTiming('/nonexistent')].map(
      (source) => source.available(),
    );
    for (const reason of reasons) {
      expect(reason.ok).toBe(false);
      if (!reason.ok) expect(reason.remedy).toMatch(/\.$/);
    }
    expect(reasons[0]).toMatchObject({ why: 'there is no /nonexistent/hwrng' });
  });

  it('hwrng hands on what the device gives, and fails when the device is gone', () => {
    const device = join(directory, 'device');
    writeFileSync(device, Buffer.alloc(100, 7));
    const into = new Uint8Array(1024);
    const sampler = hwrng(device).open();
    expect(sampler.sample(into)).toBe(64);
    expect(into.subarray(0, 64).every((byte) => byte === 7)).toBe(true);
    sampler[Symbol.dispose]();
    expect(() => sampler.sample(into)).toThrow();
    rmSync(device);
  });
});
