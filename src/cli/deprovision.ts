import { command, configOf, ending } from './command.ts';
import { printJson, printLine, progressLine, table } from './output.ts';

export const deprovisionCommand = command(
  'deprovision',
  'give the TPM back as it was found and destroy the sealed keys; evidence stays',
  ['deprovision', 'deprovision --yes', 'deprovision --yes --keep-srk'],
)
  .option('--yes', 'do it; without it, what would be removed is told')
  .option('--keep-srk', 'leave the storage root key, although this node made it: others may use it by now')
  .action((options) =>
    ending(options.json, async () => {
      const { deprovision } = await import('../appliance/deprovision.ts');
      const progress = progressLine();
      progress.step('giving the TPM back');
      const result = await deprovision(await configOf(options), {
        confirmed: options.yes === true,
        keepStorageRoot: options.keepSrk === true,
      }).finally(progress.done);
      if (options.json) return printJson(result);
      printLine(`Node ${result.node} is deprovisioned. Its custody log and bundles are where they were.`);
      const rows = [
        ...result.removed.map(({ what, handle }) => ['  removed', handle, what]),
        ...result.kept.map(({ what, handle, adopted }) => [
          '  kept',
          handle,
          adopted ? `${what}, which was there before` : what,
        ]),
      ];
      for (const line of table(rows)) printLine(line);
      if (result.lockoutRestored) printLine('  the lockout parameters are what they were');
    }),
  );
