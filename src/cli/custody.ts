import { Command } from '@commander-js/extra-typings';
import type { CustodyCheck } from '../appliance/custody.ts';
import { exitStatus } from '../host/failure.ts';
import { command, configOf, ending } from './command.ts';
import { paint, printJson, printLine, table } from './output.ts';

const check = command('check', 'whether the log is whole: chain, order, nothing edited', [
  'custody check',
  'custody check --against bundle.tar.gz.sigstore.json',
])
  .option(
    '--against <head>',
    'also that nothing was cut off or rewritten since: SEQUENCE:HASH, or a file that holds a head',
  )
  .action((options) =>
    ending(options.json, async () => {
      const { checkCustody, headFrom } = await import('../appliance/custody.ts');
      const { against, ...common } = options;
      const known = against === undefined ? undefined : headFrom(against);
      const result = await checkCustody(await configOf(common), known);
      if (options.json) printJson(result);
      else if (result.ok) {
        printLine(`${paint('green', 'whole')}: ${result.head.sequence} records, head ${result.head.hash}`);
        for (const line of standing(result, known !== undefined)) printLine(line);
      } else printLine(`${paint('red', 'broken')}: ${result.problem}`);
      return result.ok ? exitStatus.done : exitStatus.rejected;
    }),
  );

/** What stands behind a log that is whole in itself, and what would show the rest. */
function standing({ tpm }: CustodyCheck, isHeldElsewhere: boolean): string[] {
  const told = tpm === null ? [] : [toldOf(tpm)];
  if (isHeldElsewhere) return [...told, 'It holds the head that was given.'];
  const open =
    tpm !== null && 'followed' in tpm
      ? 'Whether later records were cut off, or log and TPM were made anew together,'
      : 'Whether it was cut off at its end, or is another log,';
  return [...told, `${open} shows \`--against\` a head kept elsewhere.`];
}

const toldOf = (tpm: NonNullable<CustodyCheck['tpm']>): string =>
  'why' in tpm
    ? `The TPM could not be asked about it: ${tpm.why}`
    : `The TPM was told of it up to record ${tpm.followed}.`;

const show = command('show', 'what happened to this node, in order', [
  'custody show',
  'custody show --json',
  'custody show --raw',
])
  .option('--raw', 'names as they are written, as commitments')
  .action((options) =>
    ending(options.json, async () => {
      const { readCustody } = await import('../appliance/custody.ts');
      const { raw, ...common } = options;
      const records = readCustody(await configOf(common), raw);
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
