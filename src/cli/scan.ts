import { tmpdir } from 'node:os';
import type { ScannedSource } from '../appliance/entropy-sources.ts';
import { command, configOf, ending } from './command.ts';
import { paint, printJson, printLine, table } from './output.ts';

export const scanCommand = command('scan', 'all noise sources: available, or why not and what to do', [
  'scan',
  'scan -I eth0 --json',
])
  .option('-I, --interface <names>', 'data interfaces, each of which is a source')
  .action((options) =>
    ending(options.json, async () => {
      const { scanSources } = await import('../appliance/entropy-sources.ts');
      const { writableDirectory } = await import('../appliance/pool.ts');
      const config = await configOf(options);
      const sources = scanSources(config, writableDirectory(config, tmpdir()));
      if (options.json) printJson(sources);
      else for (const line of scanLines(sources)) printLine(line);
    }),
  );

function scanLines(sources: readonly ScannedSource[]): string[] {
  const rows = sources.map((source) => [
    source.name,
    source.family,
    source.available ? paint('green', 'available') : paint('yellow', 'no'),
    source.available ? creditText(source) : '',
    noteOf(source),
  ]);
  const available = sources.filter((source) => source.available).length;
  const recorded = sources.filter(({ exercised }) => exercised === 'recorded').map(({ name }) => name);
  return [
    ...table([['source', 'family', '', 'bits/sample', ''], ...rows]),
    '',
    `${available} of ${sources.length} are available. Credit is bits of min-entropy that count for one 8-bit sample.`,
    `Not exercised on hardware by the tests of this program, on recorded samples only: ${recorded.join(', ')}.`,
  ];
}

function creditText({ assessment, policyCredit, credit }: ScannedSource): string {
  if (assessment !== null) return `${credit.toFixed(3)} of ${assessment.minEntropy.toFixed(2)} assessed`;
  return policyCredit > 0 ? `not assessed (at most ${policyCredit})` : '0, mixed in';
}

function noteOf(source: ScannedSource): string {
  if (!source.available) return `${source.why} -> ${source.remedy}`;
  const { restart } = source.assessment ?? {};
  return restart?.passed === false ? paint('yellow', `restart test failed: ${restart.why}`) : source.physical;
}
