import { Command } from '@commander-js/extra-typings';
import type { Status } from '../appliance/status.ts';
import type { MaintenanceWindow } from '../interlock/interlock.ts';
import { command, configOf, ending } from './command.ts';
import { printJson, printLine } from './output.ts';

const begin = command('begin', 'open a window in which flaps are planned (root only)', [
  'maintenance begin --interface eth0 --duration 300 --reason "replace the cable"',
])
  .option('-I, --interface <names>', 'interfaces, with commas between (default: all that are watched)')
  .option('--duration <seconds>', 'how long', '300')
  .option('--flaps <number>', 'how many carrier losses', '1')
  .requiredOption('--reason <text>', 'why; goes into the custody log')
  .action((options) =>
    ending(options.json, async () => {
      const { askNode } = await import('../appliance/control.ts');
      const { stateLayout } = await import('../appliance/node-record.ts');
      const { interface: names, ...common } = options;
      const control = stateLayout((await configOf(common)).node.state_dir).control;
      const window = await askNode<MaintenanceWindow>(control, 'maintenance-begin', {
        interfaces: names?.split(',') ?? [],
        seconds: Number(options.duration),
        flaps: Number(options.flaps),
        reason: options.reason,
      });
      if (options.json) {
        printJson(window);
        return;
      }
      printLine(
        `Window open on ${window.interfaces.join(', ')} for ${window.seconds} s and ${window.flaps} flap(s).`,
      );
    }),
  );

const end = command('end', 'close the window now', ['maintenance end']).action((options) =>
  ending(options.json, async () => {
    const { askNode } = await import('../appliance/control.ts');
    const { stateLayout } = await import('../appliance/node-record.ts');
    const control = stateLayout((await configOf(options)).node.state_dir).control;
    const window = await askNode<MaintenanceWindow>(control, 'maintenance-end');
    if (options.json) {
      printJson(window);
      return;
    }
    printLine('The window is closed.');
  }),
);

const status = command('status', 'the open window, if any', ['maintenance status']).action((options) =>
  ending(options.json, async () => {
    const { statusOf } = await import('../appliance/status.ts');
    const { interlock }: Status = await statusOf(await configOf(options));
    const window = interlock !== null && 'window' in interlock ? interlock.window : null;
    if (options.json) {
      printJson({ window });
      return;
    }
    printLine(
      window === null
        ? 'No window is open.'
        : `${window.reason}: ${window.interfaces.join(', ')}, ${Math.ceil(window.secondsLeft)} s and ${window.flapsLeft} flap(s) left.`,
    );
  }),
);

export const maintenanceCommand = new Command('maintenance')
  .description('planned windows, in which a flap wipes nothing')
  .addCommand(begin)
  .addCommand(end)
  .addCommand(status);
