import { fstatSync } from 'node:fs';
import { command, configOf, ending, stopSignal } from './command.ts';
import { logLine, printJson } from './output.ts';

export const courierCommand = command(
  'courier',
  'deliver alerts and bundles: no privilege, no keys of the node (started by run, unless the service manager does)',
  ['courier', 'courier --once'],
)
  .option('--once', 'deliver what is due now, then end')
  .action((options) =>
    ending(options.json, async () => {
      const { runCourier } = await import('../appliance/courier.ts');
      const config = await configOf(options);
      const signal = AbortSignal.any([stopSignal(), ...(options.once ? [] : [parentGone()])]);
      const queued = await runCourier(config, { once: options.once === true, signal, log: logLine });
      if (options.json) printJson({ queued });
    }),
  );

/**
 * Aborted when standard input ends, where it is a pipe: the node that started this courier is gone. Under a service manager
 * standard input is a file, and the manager itself ends the courier.
 */
function parentGone(): AbortSignal {
  const controller = new AbortController();
  const input = fstatSync(0);
  if (input.isFIFO() || input.isSocket()) {
    process.stdin.resume();
    process.stdin.once('end', () => controller.abort());
    process.stdin.once('error', () => controller.abort());
  }
  return controller.signal;
}
