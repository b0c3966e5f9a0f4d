// `report`: samples of chosen sources, looked at: figures and plots, as one HTML page or as Markdown with SVG files beside it.
import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { basename, dirname, extname, join } from 'node:path';
import { assess } from '../entropy/assessment/assess.ts';
import { consecutiveSamples } from '../entropy/assessment/restart.ts';
import { analyse } from '../entropy/report/analysis.ts';
import { htmlReport, markdownReport, type Report, type ReportedSource } from '../entropy/report/document.ts';
import { autocorrelationPlot, bitmapPlot, histogramPlot, spectrumPlot } from '../entropy/report/plots.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import type { Config } from './config.ts';
import { type ScannedSource, scanSources, sourceNamed } from './entropy-sources.ts';

export interface ReportRequest {
  /** `.md` or `.html`. */
  readonly output: string;
  /** Names or families; all that are available unless told. */
  readonly sources: readonly string[] | undefined;
  readonly samples: number;
  readonly fallbackDirectory: string;
}

export interface ReportMade {
  readonly files: readonly string[];
  readonly sources: readonly {
    readonly name: string;
    readonly minEntropy: number;
    readonly credit: number;
  }[];
  readonly missing: Report['missing'];
}

const patienceMilliseconds = 20_000;

/** @throws Failure `usage`, `source-unknown`, `report-failed`. */
export function makeReport(
  config: Config,
  request: ReportRequest,
  onProgress: (what: string) => void,
): ReportMade {
  const kind = extname(request.output);
  if (kind !== '.md' && kind !== '.html') {
    throw new Failure('usage', `--output takes a name that ends in .md or .html, not "${request.output}".`, {
      status: exitStatus.usage,
    });
  }
  const missing: { name: string; why: string }[] = [];
  const sources = chosen(config, request).flatMap((scanned) => {
    onProgress(scanned.name);
    try {
      if (!scanned.available) throw new Failure('source-unavailable', scanned.why ?? '');
      return [reported(config, scanned, request)];
    } catch (error) {
      missing.push({ name: scanned.name, why: reasonOf(error).replace(/\.$/, '') });
      return [];
    }
  });
  const report: Report = {
    made: utcNow(),
    node: config.node.name,
    kernel: release(),
    processor: cpus()[0]?.model ?? 'unknown processor',
    sources,
    missing,
  };
  return {
    files: write(report, request.output, kind),
    sources: sources.map(({ name, minEntropy, credit }) => ({ name, minEntropy, credit })),
    missing,
  };
}

function chosen(config: Config, { sources, fallbackDirectory }: ReportRequest): ScannedSource[] {
  const all = scanSources(config, fallbackDirectory);
  if (sources === undefined) return all.filter(({ available }) => available);
  return sources.flatMap((name) => {
    const found = all.filter((source) => source.name === name || source.family === name);
    if (found.length === 0) sourceNamed(config, name, fallbackDirectory); // Says which there are.
    return found;
  });
}

function reported(config: Config, scanned: ScannedSource, request: ReportRequest): ReportedSource {
  const source = sourceNamed(config, scanned.name, request.fallbackDirectory);
  const samples = consecutiveSamples(source, request.samples, patienceMilliseconds);
  const analysis = analyse(samples);
  const { minEntropy, estimates } = assess(samples);
  const [estimator = ''] =
    Object.entries(estimates).sort(([a, x], [b, y]) => inSamples(a, x) - inSamples(b, y))[0] ?? [];
  return {
    name: scanned.name,
    family: scanned.family,
    physical: scanned.physical,
    exercised: scanned.exercised,
    analysis,
    minEntropy: Math.max(0, minEntropy),
    estimator,
    credit: scanned.credit,
    policyCredit: scanned.policyCredit,
    plots: {
      histogram: histogramPlot(analysis.histogram),
      autocorrelation: autocorrelationPlot(analysis.autocorrelation, samples.length),
      spectrum: spectrumPlot(analysis.spectrum),
      bitmap: bitmapPlot(samples),
    },
  };
}

/** Estimates of bits, times the bits of a sample. */
const inSamples = (estimator: string, value: number): number =>
  estimator.startsWith('bitstring') ? 8 * value : value;

function write(report: Report, output: string, kind: '.md' | '.html'): string[] {
  try {
    if (kind === '.html') {
      writeFileSync(output, htmlReport(report));
      return [output];
    }
    const { text, files } = markdownReport(report, basename(output, kind));
    for (const [name, svg] of files) writeFileSync(join(dirname(output), name), `${svg}\n`);
    writeFileSync(output, text);
    return [output, ...[...files.keys()].map((name) => join(dirname(output), name))];
  } catch (error) {
    throw new Failure('report-failed', `The report cannot be written: ${reasonOf(error)}.`, {
      remedy: 'Name a file in a directory that can be written.',
      cause: error,
    });
  }
}
