import { Command } from '@commander-js/extra-typings';
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
    const { target, bundles, stuck, spooled } = plainly(uploads);
    printLine(`Bundles go to ${target}.`);
    if (bundles.length === 0) printLine('No bundle has been handed to the courier yet.');
    for (const line of table(
      bundles.map(({ key, state, attempts, nextAttempt, partsSent, error, delivered, receiptWaits }) => [
        key,
        paint(state === 'delivered' ? 'green' : 'yellow', state),
        `${attempts} ${attempts === 1 ? 'attempt' : 'attempts'}`,
        nextAttempt === null ? '' : `next ${nextAttempt}`,
        partsSent === null ? '' : `${partsSent} ${partsSent === 1 ? 'part' : 'parts'} there`,
        error ??
          (delivered !== null
            ? `${delivered.where} (custody record ${delivered.record})`
            : receiptWaits
              ? 'its receipt waits for the node, which was not running'
              : ''),
      ]),
    )) {
      printLine(line);
    }
    if (stuck !== null) {
      const number = stuck.bundles === 1 ? 'One bundle waits' : `${stuck.bundles} bundles wait`;
      printLine(paint('yellow', `No way out: ${number}, since ${stuck.since}. ${stuck.why}`));
    }
    if (spooled > 0) printLine(`${spooled} in the spool: no courier has taken them yet.`);
  }),
);

const retry = command('retry', 'try every bundle that waits now, without its pause', ['upload retry']).action(
  (options) =>
    ending(options.json, async () => {
      const { retryUploads } = await import('../appliance/uploads.ts');
      const made = retryUploads(await configOf(options));
      if (options.json) printJson(made);
      else if (made.due === 0) printLine('No bundle waits.');
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
