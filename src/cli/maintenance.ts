import { Command } from '@commander-js/extra-typings';
import type { Asked } from '../appliance/asked.ts';
import type { Status } from '../appliance/status.ts';
import type { Forbidden } from '../appliance/windows.ts';
import type { MaintenanceWindow, OpenedWindow } from '../interlock/window.ts';
import { type CommonOptions, command, configOf, ending } from './command.ts';
import { printJson, printLine, table } from './output.ts';

async function askControl<T>(
  options: CommonOptions,
  method: string,
  params: Record<string, unknown> = {},
): Promise<T> {
  const { askNode } = await import('../appliance/control.ts');
  return await askNode<T>(await controlOf(options), method, params);
}

async function controlOf(options: CommonOptions): Promise<string> {
  const { stateLayout } = await import('../appliance/state-layout.ts');
  return stateLayout((await configOf(options)).node.state_dir).control;
}

const begin = command('begin', 'open a window in which flaps are planned (root only)', [
  'maintenance begin --interface eth0 --duration 300 --reason "replace the cable"',
])
  .option('-I, --interface <names>', 'interfaces, with commas between (default: all that are watched)')
  .option('--duration <seconds>', 'how long', '300')
  .option('--flaps <number>', 'how many carrier losses', '1')
  .requiredOption('--reason <text>', 'why; goes into the custody log')
  .action((options) =>
    ending(options.json, async () => {
      const { interface: names, ...common } = options;
      const window = await askControl<OpenedWindow>(common, 'maintenance-begin', {
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
      if (window.flapsThisHour < window.flaps)
        printLine(
          `Within this hour ${window.flapsThisHour} of them are allowed (interlock.planned_flaps_per_hour): one more ends the window, and zeroizes where the cable is then still down.`,
        );
    }),
  );

const end = command('end', 'close the window now', ['maintenance end']).action((options) =>
  ending(options.json, async () => {
    const window = await askControl<MaintenanceWindow>(options, 'maintenance-end');
    if (options.json) {
      printJson(window);
      return;
    }
    printLine('The window is closed.');
  }),
);

/** Until when nothing may open a window; from the running node, or from what it has left. */
async function forbiddenOf(options: CommonOptions): Promise<Forbidden | null> {
  const { readForbidden } = await import('../appliance/windows.ts');
  const { stateLayout } = await import('../appliance/state-layout.ts');
  return readForbidden(stateLayout((await configOf(options)).node.state_dir).forbidden) ?? null;
}

const forbid = command(
  'forbid',
  'a criticality window, in which no maintenance window can be opened (root only)',
  ['maintenance forbid --duration 28800 --reason "the election"'],
)
  .option('--duration <seconds>', 'how long, up to a week', '3600')
  .requiredOption('--reason <text>', 'why; goes into the custody log')
  .action((options) =>
    ending(options.json, async () => {
      const forbidden = await askControl<Forbidden>(options, 'maintenance-forbid', {
        seconds: Number(options.duration),
        reason: options.reason,
      });
      if (options.json) printJson(forbidden);
      else printLine(`No maintenance window can be opened until ${forbidden.until}.`);
    }),
  );

const allow = command('allow', 'end a criticality window (root only)', ['maintenance allow']).action(
  (options) =>
    ending(options.json, async () => {
      const allowed = await askControl(options, 'maintenance-allow');
      if (options.json) printJson(allowed);
      else printLine('Maintenance windows can be opened again.');
    }),
);

const settle = command(
  'settle',
  'say that what a window asks for (rotate, appraise) is done, or need not be (root only)',
  ['maintenance settle appraise --reason "Anna appraised alpha and beta"'],
)
  .argument('<what>', 'rotate or appraise')
  .requiredOption('--reason <text>', 'who did what; goes into the custody log')
  .action((what, options) =>
    ending(options.json, async () => {
      const settled = await askControl<Asked>(options, 'maintenance-settle', {
        what,
        reason: options.reason,
      });
      if (options.json) printJson(settled);
      else printLine(`Settled: ${settled.what}, asked for since ${settled.since}.`);
    }),
  );

const list = command('list', 'the windows that there were, as the custody log tells them', [
  'maintenance list',
  'maintenance list --json',
]).action((options) =>
  ending(options.json, async () => {
    const { findCustody } = await import('../appliance/custody.ts');
    const { windowEvents, windowsOf } = await import('../appliance/windows.ts');
    const windows = windowsOf(findCustody(await configOf(options), windowEvents));
    if (options.json) {
      printJson({ windows, forbidden: await forbiddenOf(options) });
      return;
    }
    const { isRunning } = await import('../appliance/control.ts');
    // One that no record ends, of a node that does not run, has ended with it; the next start records that.
    const unended = (await isRunning(await controlOf(options))) ? 'open' : 'with the node';
    const rows = windows.map(({ opened, ended, why, interfaces, reason, flapsUsed, flaps }) => [
      opened,
      ended ?? unended,
      interfaces.join(', '),
      `${flapsUsed} of ${flaps}`,
      why === null ? reason : `${reason} (${why})`,
    ]);
    for (const line of table([['OPENED', 'ENDED', 'INTERFACES', 'FLAPS', 'REASON'], ...rows]))
      printLine(line);
  }),
);

const status = command('status', 'the open window, if any', ['maintenance status']).action((options) =>
  ending(options.json, async () => {
    const { statusOf } = await import('../appliance/status.ts');
    const { interlock }: Status = await statusOf(await configOf(options));
    const window = interlock !== null && 'window' in interlock ? interlock.window : null;
    if (options.json) {
      printJson({ window, forbidden: await forbiddenOf(options) });
      return;
    }
    const forbidden = await forbiddenOf(options);
    if (forbidden !== null) printLine(`Forbidden until ${forbidden.until}: ${forbidden.reason}.`);
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
  .addCommand(status)
  .addCommand(list)
  .addCommand(settle)
  .addCommand(forbid)
  .addCommand(allow);
