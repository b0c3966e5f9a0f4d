// The command line as a whole: every command, usage errors with the nearest known name, exit statuses.
import { Command, CommanderError } from '@commander-js/extra-typings';
import { exitStatus } from '../host/failure.ts';
import { alertCommand } from './alert.ts';
import { approveCommand } from './approve.ts';
import { attestCommand } from './attest.ts';
import { benchCommand } from './bench.ts';
import { collectForensicsCommand } from './collect-forensics.ts';
import { ended } from './command.ts';
import { configCommand } from './config.ts';
import { courierCommand } from './courier.ts';
import { custodyCommand } from './custody.ts';
import { demoCommand } from './demo.ts';
import { deprovisionCommand } from './deprovision.ts';
import { deviceCommand } from './device.ts';
import { doctorCommand } from './doctor.ts';
import { forensicsCommand } from './forensics.ts';
import { maintenanceCommand } from './maintenance.ts';
import { printJson } from './output.ts';
import { poolCommand } from './pool.ts';
import { probeCommand } from './probe.ts';
import { provisionCommand } from './provision.ts';
import { remoteCommand } from './remote.ts';
import { reportCommand } from './report.ts';
import { runCommand } from './run.ts';
import { scanCommand } from './scan.ts';
import { serverCommand } from './server.ts';
import { sigstoreCommand } from './sigstore.ts';
import { statusCommand } from './status.ts';
import { streamCommand } from './stream.ts';
import { uploadCommand } from './upload.ts';
import { verifyCommand } from './verify.ts';
import { zeroizeCommand } from './zeroize.ts';

const commands = [
  provisionCommand,
  approveCommand,
  deprovisionCommand,
  runCommand,
  courierCommand,
  statusCommand,
  doctorCommand,
  maintenanceCommand,
  zeroizeCommand,
  remoteCommand,
  collectForensicsCommand,
  verifyCommand,
  forensicsCommand,
  alertCommand,
  uploadCommand,
  sigstoreCommand,
  attestCommand,
  custodyCommand,
  streamCommand,
  deviceCommand,
  serverCommand,
  poolCommand,
  scanCommand,
  probeCommand,
  reportCommand,
  configCommand,
  demoCommand,
  benchCommand,
];

/** Runs one command line and returns its exit status. */
export async function runProgram(args: readonly string[]): Promise<number> {
  process.stdout.on('error', endWithReader);
  const program = new Command('esoteric-appliance')
    .description(
      'A hardened entropy appliance: keys sealed in a TPM, links that zeroize on an unplanned flap, evidence that verifies offline.',
    )
    .option('-V, --version', 'the version of the program')
    .showSuggestionAfterError()
    .showHelpAfterError('See `esoteric-appliance --help`.');
  for (const command of commands) program.addCommand(command as unknown as Command);
  exitByException(program as unknown as Command);
  try {
    await program.parseAsync([...args], { from: 'user' });
    return ended.status;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return exitStatus.done;
    if (args.includes('--json')) printJson({ error: { code: 'usage', message: error.message } });
    return exitStatus.usage;
  }
}

function exitByException(command: Command): void {
  command.exitOverride();
  for (const nested of command.commands) exitByException(nested as unknown as Command);
}

/** A reader that has seen enough (`| head`) is no failure. */
function endWithReader(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
  process.exit(ended.status);
}
