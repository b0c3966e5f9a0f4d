import { Option } from '@commander-js/extra-typings';
import { levels } from '../interlock/causes.ts';
import type { ZeroizeOutcome } from '../interlock/outcome.ts';
import { command, configOf, ending } from './command.ts';
import { printJson, printLine, table } from './output.ts';

export const zeroizeCommand = command(
  'zeroize',
  'the red button: destroy all secrets of the running node now',
  ['zeroize --reason "device leaves the building"', 'zeroize --level destroy --reason "decommissioned"'],
)
  .addOption(new Option('--level <level>', 'how far (default: the policy for an operator)').choices(levels))
  .requiredOption('--reason <text>', 'why; goes into the custody log')
  .action((options) =>
    ending(options.json, async () => {
      const { askNode } = await import('../appliance/control.ts');
      const { stateLayout } = await import('../appliance/state-layout.ts');
      const control = stateLayout((await configOf(options)).node.state_dir).control;
      const outcome = await askNode<ZeroizeOutcome>(control, 'zeroize', {
        reason: options.reason,
        ...(options.level === undefined ? {} : { level: options.level }),
      });
      if (options.json) {
        printJson(outcome);
        return;
      }
      const { memory, kernel, tpm, disk } = outcome.stages;
      printLine(`Zeroized (level ${outcome.level}, cause ${outcome.cause}).`);
      for (const line of table([
        ['  memory', `${memory.micros} us`],
        ['  kernel', `${kernel.micros} us, ${kernel.failures} failed`],
        ['  TPM', `${tpm.micros} us, ${tpm.result}`],
        ['  disk', `${disk.micros} us, ${disk.result}`],
      ])) {
        printLine(line);
      }
    }),
  );
