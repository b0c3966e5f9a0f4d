import { exitStatus } from '../host/failure.ts';
import { command, configOf, ending } from './command.ts';
import { paint, printJson, printLine, table } from './output.ts';

export const doctorCommand = command('doctor', 'what this machine can and cannot do, each with its remedy', [
  'doctor',
  'doctor --tpm device:/dev/tpmrm0 --json',
])
  .option('-I, --interface <names>', 'data interfaces that are to be watched')
  .action((options) =>
    ending(options.json, async () => {
      const { examine } = await import('../appliance/doctor.ts');
      const findings = await examine(await configOf(options));
      if (options.json) printJson(findings);
      else {
        const rows = findings.map(({ check, result, detail, remedy }) => [
          paint(result === 'ok' ? 'green' : 'yellow', result.padEnd(8)),
          check,
          remedy === undefined || remedy === '' ? detail : `${detail} -> ${remedy}`,
        ]);
        for (const line of table(rows)) printLine(line);
      }
      return exitStatus.done;
    }),
  );
