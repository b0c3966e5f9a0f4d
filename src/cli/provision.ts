import { command, configOf, ending } from './command.ts';
import { logLine, paint, printJson, printLine, progressLine, table } from './output.ts';

export const provisionCommand = command(
  'provision',
  'create or adopt TPM objects, seal keys, write the enrolment record (safe to repeat)',
  [
    'provision --profile provisioning/relay.toml',
    'provision --dry-run',
    'provision --no-tpm --no-sigstore --state-dir ./state',
    'provision --re-arm',
  ],
)
  .option('--profile <file>', 'profile that says which keys the node has')
  .option('--dry-run', 'say what would be made, make nothing')
  .option('--re-arm', 'take a zeroized node back into service, after its TPM was reset by a reboot')
  .action((options) =>
    ending(options.json, async () => {
      const { bypassLines } = await import('../appliance/assurance.ts');
      const { provision } = await import('../appliance/provision.ts');
      const config = await configOf(options);
      const progress = progressLine();
      const result = await provision(config, {
        profile: options.profile,
        dryRun: options.dryRun === true,
        rearm: options.reArm === true,
        onStep: progress.step,
      }).finally(progress.done);
      for (const line of bypassLines(result.assurance)) logLine(paint('yellow', line, process.stderr));
      if (options.json) {
        printJson(result);
        return;
      }
      const verb = options.dryRun === true ? 'would make' : 'made';
      printLine(`Node ${paint('bold', result.node)} is ${options.dryRun ? 'examined' : 'provisioned'}.`);
      if (result.tpm !== null) {
        const { srk, ak, signingKey, manufacturer, firmware } = result.tpm;
        for (const line of table([
          ['  TPM', `${manufacturer} ${firmware} at ${result.tpm.tcti}`],
          ['  SRK', `${srk.handle} ${srk.name.slice(0, 20)}… ${srk.adopted ? '(adopted)' : '(created)'}`],
          ['  AK', `${ak.handle} ${ak.name.slice(0, 20)}…`],
          ['  signing key', `${signingKey.name.slice(0, 20)}… certified by the AK`],
        ])) {
          printLine(line);
        }
      }
      for (const key of result.keys) {
        const how = key.sealed ? 'sealed in the TPM' : 'volatile: made anew at each run';
        printLine(`  key ${key.name} (${key.purpose}): ${key.publicKey ?? 'no public half'}, ${how}`);
      }
      printLine(`  enrolment record: ${result.enrolment}`);
      printLine(
        result.changed.length === 0 ? '  nothing to change' : `  ${verb}: ${result.changed.join(', ')}`,
      );
    }),
  );
