import { Command } from '@commander-js/extra-typings';
import { command, configOf, ending } from './command.ts';
import { paint, printJson, printLine, table } from './output.ts';

const status = command(
  'status',
  'every bundle handed to the courier, what waits in its spool, and until when',
  ['upload status', 'upload status --json'],
).action((options) =>
  ending(options.json, async () => {
    const { uploadsOf } = await import('../appliance/uploads.ts');
    const uploads = uploadsOf(await configOf(options));
    if (options.json) {
      printJson(uploads);
      return;
    }
    if (uploads.bundles.length === 0) printLine('No bundle has been handed to the courier yet.');
    for (const line of table(
      uploads.bundles.map(({ key, state, attempts, nextAttempt, partsSent, error }) => [
        key,
        paint(state === 'delivered' ? 'green' : 'yellow', state),
        `${attempts} ${attempts === 1 ? 'attempt' : 'attempts'}`,
        nextAttempt === null ? '' : `next ${nextAttempt}`,
        partsSent === null ? '' : `${partsSent} parts there`,
        error ?? '',
      ]),
    )) {
      printLine(line);
    }
    if (uploads.spooled > 0) printLine(`${uploads.spooled} in the spool: no courier has taken them yet.`);
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
