import { Command } from '@commander-js/extra-typings';
import type { DemoModule } from '../appliance/checkout.ts';
import { exitStatus } from '../host/failure.ts';
import { ending } from './command.ts';
import { printJson } from './output.ts';

export const demoCommand = new Command('demo')
  .description('two nodes, a cable pulled, a verified bundle, on this machine (needs root and a checkout)')
  .option('--json', 'one JSON document on stdout')
  .option('--no-tpm', 'the same story with volatile keys and unsigned evidence')
  .option('--no-sigstore', 'the same story without transparency log and timestamps')
  .option('--no-gpu', 'leave the GPU alone (the demo does anyway)')
  .option('--output <dir>', 'where the evidence is left', 'demo-out')
  .addHelpText('after', '\nExamples:\n  $ ./scripts/demo\n  $ ./scripts/demo --no-tpm --no-sigstore')
  .action((options) =>
    ending(options.json, async () => {
      const { importFromCheckout } = await import('../appliance/checkout.ts');
      const { runDemo } = await importFromCheckout<DemoModule>('test/lab/demo.ts', 'The demo');
      const report = await runDemo({
        tpm: options.tpm,
        sigstore: options.sigstore,
        output: options.output,
        quiet: options.json === true,
      });
      if (options.json) printJson(report);
      return report.ok ? exitStatus.done : exitStatus.failed;
    }),
  );
