import { Command } from '@commander-js/extra-typings';
import { exitStatus } from '../host/failure.ts';
import { command, configOf, ending } from './command.ts';
import { paint, printJson, printLine, table } from './output.ts';

const check = command('check', 'whether the log is whole: chain, order, nothing edited', [
  'custody check',
]).action((options) =>
  ending(options.json, async () => {
    const { readCustody } = await import('../appliance/custody.ts');
    const { records: _records, ...result } = readCustody(await configOf(options));
    if (options.json) printJson(result);
    else if (result.ok) {
      printLine(`${paint('green', 'whole')}: ${result.head.sequence} records, head ${result.head.hash}`);
    } else printLine(`${paint('red', 'broken')}: ${result.problem}`);
    return result.ok ? exitStatus.done : exitStatus.rejected;
  }),
);

const show = command('show', 'what happened to this node, in order', [
  'custody show',
  'custody show --json',
]).action((options) =>
  ending(options.json, async () => {
    const { readCustody } = await import('../appliance/custody.ts');
    const { records } = readCustody(await configOf(options));
    if (options.json) {
      printJson(records);
      return;
    }
    const rows = records.map(({ sequence, time, event, detail }) => [
      `${sequence}`,
      time,
      event,
      JSON.stringify(detail),
    ]);
    for (const line of table(rows)) printLine(line);
  }),
);

export const custodyCommand = new Command('custody')
  .description('the hash-chained log of the node')
  .addCommand(check)
  .addCommand(show);
