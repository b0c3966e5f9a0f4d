import { tmpdir } from 'node:os';
import type { ProbeResult } from '../appliance/entropy-probe.ts';
import { command, configOf, ending } from './command.ts';
import { paint, printJson, printLine, progressLine, table } from './output.ts';
import { parseCount } from './quantity.ts';

export const probeCommand = command('probe', 'assess one noise source on this machine (SP 800-90B)', [
  'probe memory-timing',
  'probe disk-timing --samples 100000 --restarts 100 --each 100',
  'probe clock-jitter --record samples.bin    # then: ea_non_iid samples.bin 8',
])
  .argument('<source>', 'its name, as `scan` lists it')
  .option('--samples <n>', 'consecutive samples (default: 1000000)')
  .option('--restarts <n>', 'restarts (default: 1000)')
  .option('--each <n>', 'samples after each restart (default: 1000)')
  .option('--seconds <n>', 'patience for taking them (default: 600)')
  .option('--record <file>', "only record raw samples in the format of NIST's tools, and FILE.restarts")
  .action((source, options) =>
    ending(options.json, async () => {
      const { probe, recordSamples } = await import('../appliance/entropy-probe.ts');
      const { writableDirectory } = await import('../appliance/pool.ts');
      const config = await configOf(options);
      const request = {
        source,
        samples: parseCount('--samples', options.samples, 2000, 100_000_000),
        restarts: parseCount('--restarts', options.restarts, 2, 10_000),
        each: parseCount('--each', options.each, 2, 100_000),
        seconds: parseCount('--seconds', options.seconds, 1, 86_400),
        fallbackDirectory: writableDirectory(config, tmpdir()),
      };
      const progress = progressLine();
      if (options.record !== undefined) {
        const recording = recordSamples(config, request, options.record, progress.step);
        progress.done();
        if (options.json) printJson(recording);
        else {
          printLine(`${recording.samples} samples in ${recording.file}: ea_non_iid ${recording.file} 8`);
          printLine(
            `${recording.restarts} restarts of ${recording.each} in ${recording.restartFile}: ea_restart ${recording.restartFile} 8 H`,
          );
        }
        return;
      }
      const result = probe(config, request, progress.step);
      progress.done();
      if (options.json) printJson(result);
      else for (const line of probeLines(result)) printLine(line);
    }),
  );

function probeLines(result: ProbeResult): string[] {
  const { assessment, histogram, policyCredit, credit, kept } = result;
  const { restart } = assessment;
  const rows = Object.entries(assessment.estimates).map(([name, value]) => [
    name,
    (name.startsWith('bitstring') ? value * 8 : value).toFixed(4),
    bar(name.startsWith('bitstring') ? value : value / 8),
  ]);
  return [
    `${result.source}: ${result.physical}`,
    '',
    ...table([['estimator', 'bits/sample', ''], ...rows]),
    '',
    ...histogramLines(histogram),
    '',
    ...table([
      [
        'assessed',
        `${assessment.minEntropy.toFixed(4)} bits/sample, the least of the estimates, over ${assessment.samples} samples`,
      ],
      ['restart test', restartText(restart)],
      ['policy', `at most ${policyCredit}`],
      ['credit', paint(['bold', credit > 0 ? 'green' : 'yellow'], `${credit.toFixed(4)} bits/sample`)],
      ['kept', kept ?? paint('yellow', `not kept: ${result.keptNot}`)],
    ]),
  ];
}

function restartText({
  passed,
  restarts,
  samples,
  rows,
  columns,
  why,
}: ProbeResult['assessment']['restart']): string {
  const of = `${restarts} restarts of ${samples} samples`;
  return passed
    ? `${paint('green', 'passed')}: ${of}, rows ${rows.toFixed(3)}, columns ${columns.toFixed(3)}`
    : `${paint('red', 'failed')}: ${of}; ${why}`;
}

const barLength = 32;
const bar = (share: number): string => '█'.repeat(Math.round(Math.max(0, Math.min(1, share)) * barLength));

/** Eight values a line. */
function histogramLines(histogram: readonly number[]): string[] {
  const sums = Array.from({ length: 32 }, (_, group) =>
    histogram.slice(group * 8, group * 8 + 8).reduce((sum, count) => sum + count, 0),
  );
  const most = Math.max(...sums, 1);
  const distinct = histogram.filter((count) => count > 0).length;
  const rows = sums.map((count, group) => [`${group * 8}-${group * 8 + 7}`, bar(count / most)]);
  return [`histogram of the samples (${distinct} distinct values)`, ...table(rows)];
}
