import { Command } from '@commander-js/extra-typings';
import { command, configOf, ending } from './command.ts';
import { paint, plainly, printJson, printLine, table } from './output.ts';

const test = command('test', 'send a test alert to all channels, through the running node', ['alert test'])
  .option('--message <text>', 'what it says')
  .action((options) =>
    ending(options.json, async () => {
      const { askNode } = await import('../appliance/control.ts');
      const { stateLayout } = await import('../appliance/state-layout.ts');
      const control = stateLayout((await configOf(options)).node.state_dir).control;
      const sent = await askNode<{ key: string }>(control, 'alert', {
        ...(options.message === undefined ? {} : { message: options.message }),
      });
      if (options.json) printJson(sent);
      else printLine(`Handed to the courier as ${sent.key}; see \`esoteric-appliance alert status\`.`);
    }),
  );

const status = command('status', 'every delivery: queued, delivered or dead-lettered', [
  'alert status',
]).action((options) =>
  ending(options.json, async () => {
    const { outboxRows } = await import('../appliance/alerts.ts');
    const rows = outboxRows(await configOf(options));
    if (options.json) {
      printJson(rows);
      return;
    }
    if (rows.length === 0) printLine('Nothing has been handed to the courier yet.');
    for (const line of table(
      plainly(rows).map((row) => [
        row.kind,
        row.key,
        row.channel,
        paint(row.state === 'delivered' ? 'green' : row.state === 'queued' ? 'yellow' : 'red', row.state),
        row.error ?? '',
      ]),
    )) {
      printLine(line);
    }
  }),
);

export const alertCommand = new Command('alert')
  .description('alert channels and the outbox')
  .addCommand(test)
  .addCommand(status);
