// The command line as a whole: every command, usage errors with the nearest known name, exit statuses.
import { Command, CommanderError } from '@commander-js/extra-typings';
import { exitStatus } from '../host/failure.ts';
import { ended } from './command.ts';
import { completionCommand } from './completion.ts';
import { printJson } from './output.ts';

/** By name, in the order of the help. A command line loads the one that it names. */
const commands: Readonly<Record<string, () => Promise<unknown>>> = {
  provision: async () => (await import('./provision.ts')).provisionCommand,
  approve: async () => (await import('./approve.ts')).approveCommand,
  deprovision: async () => (await import('./deprovision.ts')).deprovisionCommand,
  run: async () => (await import('./run.ts')).runCommand,
  courier: async () => (await import('./courier.ts')).courierCommand,
  status: async () => (await import('./status.ts')).statusCommand,
  doctor: async () => (await import('./doctor.ts')).doctorCommand,
  maintenance: async () => (await import('./maintenance.ts')).maintenanceCommand,
  zeroize: async () => (await import('./zeroize.ts')).zeroizeCommand,
  remote: async () => (await import('./remote.ts')).remoteCommand,
  'collect-forensics': async () => (await import('./collect-forensics.ts')).collectForensicsCommand,
  verify: async () => (await import('./verify.ts')).verifyCommand,
  forensics: async () => (await import('./forensics.ts')).forensicsCommand,
  alert: async () => (await import('./alert.ts')).alertCommand,
  upload: async () => (await import('./upload.ts')).uploadCommand,
  sigstore: async () => (await import('./sigstore.ts')).sigstoreCommand,
  attest: async () => (await import('./attest.ts')).attestCommand,
  custody: async () => (await import('./custody.ts')).custodyCommand,
  stream: async () => (await import('./stream.ts')).streamCommand,
  device: async () => (await import('./device.ts')).deviceCommand,
  server: async () => (await import('./server.ts')).serverCommand,
  pool: async () => (await import('./pool.ts')).poolCommand,
  scan: async () => (await import('./scan.ts')).scanCommand,
  probe: async () => (await import('./probe.ts')).probeCommand,
  report: async () => (await import('./report.ts')).reportCommand,
  config: async () => (await import('./config.ts')).configCommand,
  demo: async () => (await import('./demo.ts')).demoCommand,
  bench: async () => (await import('./bench.ts')).benchCommand,
};

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
  for (const command of await commandsFor(args)) program.addCommand(command);
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

/** The command that is named first; all of them for help, for completion, and for a word that is none. */
async function commandsFor([name = '']: readonly string[]): Promise<Command[]> {
  if (Object.hasOwn(commands, name)) return [(await commands[name]?.()) as Command];
  const all = await Promise.all(Object.values(commands).map((load) => load()));
  return [...all, completionCommand] as Command[];
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
