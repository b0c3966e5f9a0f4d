import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { command, commonArguments, configOf, ending, stopSignal } from './command.ts';
import { logLine } from './output.ts';

export const runCommand = command('run', 'run the node: links, entropy, interlock, courier', [
  'run',
  'run -I eth0,eth1',
  'run --no-tpm --no-sigstore --state-dir ./state',
  'run --demo',
])
  .option('-I, --interface <names>', 'data interfaces to watch: any, eth0,eth1, or CPU[n] for none')
  .option('--demo', 'implies -I CPU --no-gpu --no-tpm --no-sigstore, and a state directory of its own')
  .option('--allow-swappable', 'go on where memory cannot be locked: secrets may reach swap')
  .action((given) =>
    ending(given.json, async () => {
      const { runNode } = await import('../appliance/run.ts');
      using scratch = given.demo === true && given.stateDir === undefined ? scratchDirectory() : undefined;
      const options = given.demo
        ? {
            ...given,
            interface: 'CPU',
            tpm: false as const,
            sigstore: false,
            stateDir: given.stateDir ?? scratch?.path,
          }
        : given;
      const config = await configOf(options);
      await runNode(config, {
        courierArguments: commonArguments(options),
        provisionFirst: given.demo === true || config.tpm.mode === 'none',
        allowSwappable: given.allowSwappable === true,
        signal: stopSignal(),
        log: logLine,
        onReady: (node) => {
          logLine(`State: ${node.layout.directory}. Stop with Ctrl-C.`);
        },
      });
    }),
  );

/** A state directory that goes when the node does. */
function scratchDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'esoteric-demo-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
