import { randomFillSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gradeOf } from '../../src/entropy/grade.ts';
import { analyse } from '../../src/entropy/report/analysis.ts';
import { htmlReport, markdownReport, type Report } from '../../src/entropy/report/document.ts';
import {
  autocorrelationPlot,
  bitmapPlot,
  histogramPlot,
  spectrumPlot,
} from '../../src/entropy/report/plots.ts';
import type { EntropyStatus, SourceStatus } from '../../src/entropy/status.ts';

describe('the analysis of samples', () => {
  it('finds little in random ones', () => {
    const found = analyse(randomFillSync(new Uint8Array(50_000)));
    expect(found).toMatchObject({ samples: 50_000, distinct: 256 });
    expect(found.shannon).toBeGreaterThan(7.9);
    expect(Math.max(...found.autocorrelation.map(Math.abs))).toBeLessThan(0.05);
    expect(Math.max(...found.spectrum)).toBeLessThan(2);
  });

  it('finds a period in autocorrelation and spectrum', () => {
    const found = analyse(Uint8Array.from({ length: 8192 }, (_, i) => (i % 8 < 4 ? 100 : 150)));
    expect(found.autocorrelation[7]).toBeCloseTo(1);
    expect(found.autocorrelation[3]).toBeCloseTo(-1);
    // One in eight of the sampling rate, of 256 steps to a half.
    expect(found.spectrum.indexOf(Math.max(...found.spectrum))).toBe(63);
    expect(found).toMatchObject({ distinct: 2, mean: 125, deviation: 25, shannon: 1 });
  });

  it('bears a constant', () => {
    const found = analyse(new Uint8Array(2000).fill(9));
    expect(found).toMatchObject({ shannon: 0, deviation: 0, mostCommon: { value: 9, share: 1 } });
    expect(found.spectrum.every((power) => power === 0)).toBe(true);
  });
});

describe('plots', () => {
  it('are well-formed for any samples, and hold no number that is none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 2, maxLength: 1500 }), (samples) => {
        const { histogram, autocorrelation, spectrum } = analyse(samples);
        for (const svg of [
          histogramPlot(histogram),
          autocorrelationPlot(autocorrelation, samples.length),
          spectrumPlot(spectrum),
          bitmapPlot(samples),
        ]) {
          expect(svg).toMatch(/^<svg [^>]*>[\s\S]*<\/svg>$/);
          expect(svg).not.toMatch(/NaN|Infinity|undefined/);
          const opened = svg.match(/<(svg|title|text|g)\b/g)?.length;
          expect(svg.match(/<\/(svg|title|text|g)>/g)?.length).toBe(opened);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('draw a bitmap whose dark area is its ones', () => {
    const area = [...bitmapPlot(Uint8Array.of(0xf0, 0x01)).matchAll(/h(\d+)v1/g)].map(([, run]) =>
      Number(run),
    );
    expect(area).toEqual([4, 1]);
  });
});

describe('a report', () => {
  const samples = randomFillSync(new Uint8Array(3000));
  const analysis = analyse(samples);
  const report: Report = {
    made: '2026-01-01T00:00:00.000Z',
    node: 'a<b>',
    kernel: '6.18',
    processor: 'a & b',
    missing: [{ name: 'gpu-timing', why: 'there is no GPU' }],
    sources: [
      {
        name: 'device:/dev/x',
        family: 'external',
        physical: 'whatever',
        exercised: 'recorded',
        analysis,
        minEntropy: 3.25,
        estimator: 'literal t-tuple',
        credit: 0,
        policyCredit: 0,
        plots: {
          histogram: histogramPlot(analysis.histogram),
          autocorrelation: autocorrelationPlot(analysis.autocorrelation, 3000),
          spectrum: spectrumPlot(analysis.spectrum),
          bitmap: bitmapPlot(samples),
        },
      },
    ],
  };

  it('in HTML stands alone and takes nothing for markup', () => {
    const page = htmlReport(report);
    expect(page).toContain('a&lt;b&gt;');
    expect(page).toContain('a &amp; b');
    expect(page.match(/<svg/g)).toHaveLength(4);
    expect(page).not.toMatch(/src=|href=/);
    expect(page).toContain('gpu-timing is not here: there is no GPU.');
    expect(page).toContain('on recorded samples only');
  });

  it('in Markdown shows each plot from a file beside it', () => {
    const { text, files } = markdownReport(report, 'my report');
    expect(files.size).toBe(4);
    for (const name of files.keys()) expect(text).toContain(`](${encodeURI(name)})`);
    expect([...files.keys()][0]).toBe('my report.device__dev_x.histogram.svg');
    expect(text).toContain('| device:/dev/x | 3000 |');
    expect(text).toContain('3.250 bits (literal t-tuple)');
  });
});

describe('the grade of a pool', () => {
  const source = (family: string, more: Partial<SourceStatus> = {}): SourceStatus => ({
    name: `${family}-source`,
    family,
    physical: '',
    state: 'healthy',
    credit: 0.1,
    assessed: 'full',
    samples: 1,
    failures: 0,
    available: true,
    ...more,
  });
  const status = (sources: SourceStatus[], state: EntropyStatus['state'] = 'serving'): EntropyStatus => ({
    state,
    sources,
    seeded: true,
    reseeds: 0,
    bytesOut: 0,
    credited: 448,
  });
  const three = [source('timing'), source('silicon'), source('hardware')];

  it.each([
    ['A', status(three)],
    ['B', status([...three.slice(0, 2), source('hardware', { assessed: 'brief' })])],
    ['B', status([...three, source('external', { state: 'expelled' })])],
    ['B', status(three.slice(0, 2))],
    ['C', status([source('timing'), source('timing')])],
    ['D', status(three, 'degraded')],
    ['F', status(three, 'unhealthy')],
    ['F', status([], 'zeroized')],
  ] as const)('is %s', (letter, of) => {
    const grade = gradeOf(of);
    expect(grade.letter).toBe(letter);
    expect(grade.because.length).toBeGreaterThan(0);
    for (const sentence of grade.because) expect(sentence).toMatch(/\.$/);
  });
});
