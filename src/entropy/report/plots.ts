// Plots as SVG: a histogram, an autocorrelation, a spectrum, a bitmap. Plain shapes with titles, readable in light and dark pages.
const width = 560;
const height = 180;
const margin = { left: 48, right: 8, top: 24, bottom: 28 } as const;
const innerWidth = width - margin.left - margin.right;
const innerHeight = height - margin.top - margin.bottom;
const ink = '#3465a4';
const faint = '#8a8a8a';

interface Axes {
  readonly title: string;
  readonly x: readonly [low: string, high: string];
  readonly y: readonly [low: string, high: string];
}

const text = (x: number, y: number, words: string, anchor = 'start'): string =>
  `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" font-family="sans-serif" font-size="11" fill="${faint}">${words}</text>`;
const round = (value: number): number => Math.round(value * 100) / 100;

function framed({ title, x, y }: Axes, shapes: string): string {
  const bottom = height - margin.bottom;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${title}">`,
    `<title>${title}</title>`,
    text(margin.left, 14, title),
    `<path d="M${margin.left} ${margin.top}V${bottom}H${width - margin.right}" fill="none" stroke="${faint}"/>`,
    text(margin.left, height - 10, x[0]),
    text(width - margin.right, height - 10, x[1], 'end'),
    text(margin.left - 4, bottom, y[0], 'end'),
    text(margin.left - 4, margin.top + 8, y[1], 'end'),
    shapes,
    '</svg>',
  ].join('\n');
}

export function histogramPlot(counts: readonly number[]): string {
  const most = Math.max(...counts, 1);
  const step = innerWidth / counts.length;
  const bars = counts.map((count, value) => {
    const tall = (innerHeight * count) / most;
    const top = height - margin.bottom - tall;
    return `<rect x="${round(margin.left + value * step)}" y="${round(top)}" width="${round(step)}" height="${round(tall)}"/>`;
  });
  return framed(
    { title: 'How often each value occurs', x: ['0', String(counts.length - 1)], y: ['0', String(most)] },
    `<g fill="${ink}">${bars.join('')}</g>`,
  );
}

/** `samples`: how many they were, for the band of chance. */
export function autocorrelationPlot(correlations: readonly number[], samples: number): string {
  const band = 2 / Math.sqrt(samples);
  const most = Math.max(...correlations.map(Math.abs), 2 * band);
  const middle = margin.top + innerHeight / 2;
  const scale = innerHeight / 2 / most;
  const step = innerWidth / correlations.length;
  const lines = correlations.map((value, i) => {
    const x = round(margin.left + (i + 0.5) * step);
    return `M${x} ${round(middle)}V${round(middle - value * scale)}`;
  });
  const chance = `<rect x="${margin.left}" y="${round(middle - band * scale)}" width="${innerWidth}" height="${round(2 * band * scale)}" fill="${faint}" fill-opacity="0.25"/>`;
  return framed(
    {
      title: 'Autocorrelation (grey: what chance does)',
      x: ['lag 1', `lag ${correlations.length}`],
      y: [`-${most.toPrecision(2)}`, most.toPrecision(2)],
    },
    `${chance}<path d="${lines.join('')}" stroke="${ink}" stroke-width="2" fill="none"/>`,
  );
}

export function spectrumPlot(power: readonly number[]): string {
  const most = Math.max(...power, 2);
  const points = power.map((value, i) => {
    const x = margin.left + (innerWidth * i) / Math.max(1, power.length - 1);
    return `${round(x)},${round(height - margin.bottom - (innerHeight * value) / most)}`;
  });
  return framed(
    {
      title: 'Spectrum (1 is the mean)',
      x: ['slow', 'half the sampling rate'],
      y: ['0', most.toPrecision(3)],
    },
    `<polyline points="${points.join(' ')}" fill="none" stroke="${ink}"/>`,
  );
}

const bitmapSide = 128;

/** The first bits, most significant first, row by row: ones are dark. */
export function bitmapPlot(samples: Uint8Array): string {
  const bits = Math.min(samples.length * 8, bitmapSide * bitmapSide);
  const runs: string[] = [];
  for (let row = 0; row * bitmapSide < bits; row++) {
    for (let column = 0; column < bitmapSide; ) {
      const at = row * bitmapSide + column;
      let run = 0;
      while (column + run < bitmapSide && at + run < bits && bitAt(samples, at + run)) run += 1;
      if (run > 0) runs.push(`M${column} ${row}h${run}v1h-${run}z`);
      column += Math.max(1, run);
    }
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${bitmapSide} ${bitmapSide}" width="384" role="img" aria-label="Bits" shape-rendering="crispEdges">`,
    '<title>The first bits, row by row</title>',
    `<rect width="${bitmapSide}" height="${bitmapSide}" fill="#ffffff"/>`,
    `<path d="${runs.join('')}" fill="${ink}"/>`,
    '</svg>',
  ].join('\n');
}

const bitAt = (samples: Uint8Array, at: number): boolean =>
  (((samples[at >> 3] as number) >> (7 - (at & 7))) & 1) === 1;
