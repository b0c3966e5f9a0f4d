import { tmpdir } from 'node:os';
import { command, configOf, ending } from './command.ts';
import { printJson, printLine, progressLine, table } from './output.ts';
import { parseCount, parseNames } from './quantity.ts';

export const reportCommand = command('report', 'samples of noise sources, with figures and plots', [
  'report --output report.html',
  'report --samples 100000 --source memory-timing,timing --output report.md',
])
  .option('--samples <n>', 'of each source', '20000')
  .option('--source <names>', 'sources or families, with commas between (default: all that are available)')
  .requiredOption('--output <file>', 'a name that ends in .html, or in .md (plots then lie beside it)')
  .action((options) =>
    ending(options.json, async () => {
      const { makeReport } = await import('../appliance/entropy-report.ts');
      const { writableDirectory } = await import('../appliance/pool.ts');
      const config = await configOf(options);
      const progress = progressLine();
      const request = {
        output: options.output,
        sources: parseNames(options.source),
        samples: parseCount('--samples', options.samples, 2000, 10_000_000) ?? 20_000,
        fallbackDirectory: writableDirectory(config, tmpdir()),
      };
      const made = makeReport(config, request, progress.step);
      progress.done();
      if (options.json) {
        printJson(made);
        return;
      }
      const rows = made.sources.map(({ name, minEntropy, credit }) => [
        name,
        minEntropy.toFixed(3),
        credit.toFixed(3),
      ]);
      for (const line of table([['source', 'SP 800-90B', 'credit'], ...rows])) printLine(line);
      for (const { name, why } of made.missing) printLine(`left out: ${name}: ${why}`);
      printLine(`${made.files[0]}${made.files.length > 1 ? ` and ${made.files.length - 1} plots` : ''}`);
    }),
  );
