import { Command } from '@commander-js/extra-typings';
import type { UploadRow } from '../appliance/uploads.ts';
import { command, configOf, ending } from './command.ts';
import { paint, plainly, printJson, printLine, table } from './output.ts';

const status = command(
  'status',
  'where bundles go, every bundle handed to the courier and where it lies now, and why one waits',
  ['upload status', 'upload status --json'],
).action((options) =>
  ending(options.json, async () => {
    const { uploadsOf } = await import('../appliance/uploads.ts');
    const uploads = uploadsOf(await configOf(options));
    if (options.json) {
      printJson(uploads);
      return;
    }
    const { target, inClear, bundles, stuck, spooled } = plainly(uploads);
    printLine(`Bundles go to ${target}.`);
    if (inClear) printLine(paint('yellow', 'In clear: whoever is on the way there reads them.'));
    if (bundles.length === 0) printLine('No bundle has been handed to the courier yet.');
    for (const line of table(bundles.map((row) => cellsOf(row, target)))) printLine(line);
    for (const line of reasonLines(bundles)) printLine(line);
    if (stuck !== null) {
      const number = stuck.bundles === 1 ? 'One bundle waits' : `${stuck.bundles} bundles wait`;
      printLine(paint('yellow', `${number}, since ${stuck.since}: \`upload retry\` tries now.`));
    }
    if (spooled > 0) printLine(`${spooled} in the spool: no courier has taken them yet.`);
  }),
);

/** What is said of a bundle in its line; why it waits stands below, once for all of which it is said. */
function cellsOf(
  { key, state, target, attempts, nextAttempt, partsSent, archiveAt, delivered, receiptWaits }: UploadRow,
  usual: string,
): string[] {
  const about = [
    ...(nextAttempt === null ? [] : [`next ${nextAttempt.replace(/\.\d+Z$/, 'Z')}`]),
    ...(partsSent === null ? [] : [`${partsSent} ${partsSent === 1 ? 'part' : 'parts'} there`]),
    ...(archiveAt === null ? [] : [`its archive lies at ${archiveAt}, its signature waits`]),
    ...(target === null || target === usual ? [] : [`to ${target}`]),
    ...(delivered === null ? [] : [`${delivered.where} (custody record ${delivered.record})`]),
    ...(delivered === null && receiptWaits ? ['its receipt waits for the node, which was not running'] : []),
  ];
  return [
    key,
    paint(state === 'delivered' ? 'green' : 'yellow', state),
    `${attempts} ${attempts === 1 ? 'attempt' : 'attempts'}`,
    about.join(', '),
  ];
}

function reasonLines(bundles: readonly UploadRow[]): string[] {
  const of = Map.groupBy(
    bundles.filter(({ error }) => error !== null),
    ({ error }) => error,
  );
  return [...of].flatMap(([error, rows]) => [
    '',
    `${rows.map(({ key }) => key.replace(/^.*-bundle-/, '')).join(', ')}:`,
    `  ${error}`,
  ]);
}

const retry = command(
  'retry',
  'try every bundle that waits now, without its pause; they go where the configuration says now, or where --to does',
  [
    'upload retry',
    'upload retry --all',
    'upload retry --to "s3://evidence/alpha?endpoint=https://s3.example.org"',
  ],
)
  .option('--to <url>', 'have those that wait go there: s3://… or file:///…')
  .option(
    '--all',
    'also those that lie on the node and were not delivered or countersigned, as from before that was configured; with --to, all that lie there',
  )
  .action((options) =>
    ending(options.json, async () => {
      const { retryUploads } = await import('../appliance/uploads.ts');
      const made = retryUploads(await configOf(options), {
        elsewhere: options.to,
        all: options.all ?? false,
      });
      if (options.json) printJson(made);
      else if (made.due === 0)
        printLine(
          options.all
            ? 'No bundle waits, and none on this node is left to deliver or countersign.'
            : 'No bundle waits. `upload retry --all` looks for those from before an upload was configured.',
        );
      else
        printLine(
          `${made.due} due now: the courier tries within a second where one runs, else \`courier --once\` does.`,
        );
    }),
  );

export const uploadCommand = new Command('upload')
  .description('the delivery of bundles')
  .addCommand(status)
  .addCommand(retry);
