import { Command } from '@commander-js/extra-typings';
import type { BenchModule, BenchResult } from '../appliance/checkout.ts';
import { ending } from './command.ts';
import { paint, printJson, printLine, progressLine, table } from './output.ts';

export const benchCommand = new Command('bench')
  .description('speed, each figure as a ratio to a named reference in the same run (needs a checkout)')
  .option('--json', 'one JSON document on stdout')
  .option('--only <names>', 'benchmarks by name, with commas between')
  .addHelpText(
    'after',
    '\nExamples:\n  $ esoteric-appliance bench\n  $ esoteric-appliance bench --only drbg-1mib,start --json',
  )
  .action((options) =>
    ending(options.json, async () => {
      const { importFromCheckout } = await import('../appliance/checkout.ts');
      const { runBenchmarks } = await importFromCheckout<BenchModule>('test/bench/bench.ts', 'The benchmark');
      const progress = progressLine();
      const results = await runBenchmarks(options.only?.split(',') ?? [], progress.step).finally(
        progress.done,
      );
      if (options.json) {
        printJson(results);
        return;
      }
      const rows = results.map(({ name, value, unit, reference, ratio, target, met, limit }) => [
        name,
        `${value.toPrecision(4)} ${unit}`,
        `${reference.name}: ${reference.value.toPrecision(4)} ${unit}`,
        `${ratio.toPrecision(3)}x`,
        target,
        met ? paint('green', 'met') : paint('yellow', `not met${missed(limit)}`),
      ]);
      for (const line of table([['benchmark', 'value', 'reference', 'ratio', 'target', ''], ...rows])) {
        printLine(line);
      }
      const spreads = results.flatMap(({ name, unit, reference, spread }) =>
        spread === undefined
          ? []
          : (
              [
                [name, spread.value],
                [reference.name, spread.reference],
              ] as const
            ).map(([whose, { p50, p95, p99, max, p95Interval, samples }]) => [
              whose,
              ...[p50, p95, p99, max].map((figure) => `${Math.round(figure)} ${unit}`),
              p95Interval.map(Math.round).join(' to '),
              `${samples}`,
            ]),
      );
      if (spreads.length === 0) return;
      const head = ['', 'p50', 'p95', 'p99', 'max', 'p95 with 95 % confidence', 'samples'];
      for (const line of ['', ...table([head, ...spreads])]) printLine(line);
    }),
  );

/** Which of the two bounds it was. */
function missed(limit: BenchResult['limit']): string {
  if (limit === undefined) return '';
  if (limit.met) return ': the ratio';
  return limit.ratioMet ? ': the limit' : ': ratio and limit';
}
