import { randomFillSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Formatter } from '../../../src/entropy/outputs/format.ts';
import { feedKernel } from '../../../src/entropy/outputs/kernel-feed.ts';
import { Rate } from '../../../src/entropy/outputs/rate.ts';
import { thinned, UnconditionedOutput } from '../../../src/entropy/outputs/unconditioned.ts';
import type { NoiseSource } from '../../../src/entropy/source.ts';

function source(sample: (into: Uint8Array) => number): NoiseSource {
  return {
    name: 'test',
    family: 'external',
    physical: 'a test',
    pace: 'quick',
    exercised: 'live',
    available: () => ({ ok: true }),
    open: () => ({ sample, [Symbol.dispose]() {} }),
  };
}

describe('a format', () => {
  it.each(['hex', 'base64'] as const)('%s says the same however the bytes are cut', (format) => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 8 }), (chunks) => {
        const formatter = new Formatter(format);
        const text = [...chunks.map((chunk) => formatter.push(chunk)), formatter.end()]
          .map((part) => Buffer.from(part).toString())
          .join('');
        expect(Buffer.from(text.replaceAll('\n', ''), format)).toEqual(Buffer.concat(chunks));
        expect(text.split('\n').every((line) => line.length <= 76)).toBe(true);
      }),
    );
  });
});

describe('a rate', () => {
  it('lets so many bytes a second through and no more', () => {
    let now = 0;
    const rate = new Rate(1000, () => now);
    let sent = 0;
    while (now < 10_000) {
      const wait = rate.take(rate.piece);
      if (wait === 0) sent += rate.piece;
      else now += wait;
    }
    expect(sent).toBeGreaterThanOrEqual(9900);
    expect(sent).toBeLessThanOrEqual(10_200);
  });
});

describe('unconditioned output', () => {
  it('is what the source gave, after the start-up test', () => {
    let next = 0;
    const counter = source((into) => {
      for (let i = 0; i < into.length; i++) into[i] = Math.imul(next++, 0x9e37_79b1) >>> 20;
      return into.length;
    });
    using output = new UnconditionedOutput(counter, 'raw', 1);
    const out = new Uint8Array(3000);
    output.read(out);
    expect(out.every((byte, i) => byte === ((Math.imul(i + 1024, 0x9e37_79b1) >>> 20) & 0xff))).toBe(true);
  });

  it('stops when the source fails', () => {
    let stuck = false;
    using output = new UnconditionedOutput(
      source((into) => (stuck ? into.fill(1) : randomFillSync(into)).length),
      'von-neumann',
      1,
    );
    output.read(new Uint8Array(5000));
    stuck = true;
    expect(() => output.read(new Uint8Array(5000))).toThrow(
      expect.objectContaining({ code: 'source-unhealthy' }),
    );
  });

  it('gives up a source that says nothing', () => {
    let silent = false;
    using output = new UnconditionedOutput(
      source((into) => (silent ? 0 : randomFillSync(into).length)),
      'raw',
      1,
      50,
    );
    output.read(new Uint8Array(2000));
    silent = true;
    expect(() => output.read(new Uint8Array(5000))).toThrow(
      expect.objectContaining({ code: 'source-silent' }),
    );
  });

  it('by von Neumann takes 01 for 0 and 10 for 1, and drops the rest', () => {
    expect([...thinned('von-neumann', Uint8Array.of(0b01_10_00_11, 0b10_10_01_01, 0b01_01_00_11))]).toEqual([
      0b01_11_00_00,
    ]);
    expect(thinned('von-neumann', new Uint8Array(100))).toHaveLength(0);
  });

  it('by von Neumann has no bias left where the bits are independent', () => {
    const biased = Uint8Array.from({ length: 100_000 }, () => {
      let byte = 0;
      for (let bit = 0; bit < 8; bit++) byte = (byte << 1) | (Math.random() < 0.8 ? 1 : 0);
      return byte;
    });
    const out = thinned('von-neumann', biased);
    let ones = 0;
    for (const byte of out) for (let bit = byte; bit > 0; bit >>= 1) ones += bit & 1;
    // Six standard deviations.
    expect(Math.abs(ones / (out.length * 8) - 0.5)).toBeLessThan(3 / Math.sqrt(out.length * 8));
  });

  it('folded takes eight samples to one', () => {
    expect([...thinned('xor-fold', Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 1, 9))]).toEqual([0x81]);
  });
});

describe('the feeder of the kernel', () => {
  it('feeds fresh bytes, credited with no more than their generator is worth', async (context) => {
    context.skip(process.geteuid?.() !== 0, 'needs root');
    let asked = 0;
    const fed = feedKernel(async (out) => {
      asked = out.length;
      randomFillSync(out);
    });
    await expect(fed.catch((error: { code: string }) => error.code)).resolves.toSatisfy(
      (result) => result === 256 || result === 'kernel-feed-refused',
    );
    expect(asked).toBe(32);
  });

  it('feeds nothing without a fresh seed, and says what refused', async () => {
    await expect(feedKernel(() => Promise.reject(new Error('no noise')))).rejects.toThrow('no noise');
    await expect(feedKernel(async () => {}, '/dev/null')).rejects.toThrow(
      expect.objectContaining({ code: 'kernel-feed-refused' }),
    );
  });
});
