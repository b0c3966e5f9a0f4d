// What all commands share: the common options, the configuration they lead to, and how a command ends.
import { Command, Option } from '@commander-js/extra-typings';
import type { Config } from '../appliance/config.ts';
import type { ExitStatus } from '../host/failure.ts';
import { reportFailure } from './output.ts';

/** Options that every command that works on a node has. */
export interface CommonOptions {
  readonly json?: true | undefined;
  readonly config?: string | undefined;
  readonly stateDir?: string | undefined;
  /** The TCTI, false with --no-tpm. */
  readonly tpm?: string | boolean | undefined;
  readonly sigstore?: boolean | undefined;
  readonly gpu?: boolean | undefined;
  readonly interface?: string | undefined;
}

/** A command with the common options and examples for its help. */
export function command(name: string, summary: string, examples: readonly string[]) {
  const made = new Command(name)
    .description(summary)
    .option('--json', 'one JSON document on stdout')
    .option('--config <file>', 'configuration (default: /etc/esoteric-appliance/config.toml)')
    .option('--state-dir <dir>', 'state directory, instead of node.state_dir')
    .addOption(new Option('--tpm <tcti>', 'the TPM, as tpm2-tss names it (device:/dev/tpmrm0, swtpm:path=…)'))
    .addOption(new Option('--no-tpm', 'bypass the TPM: volatile keys, unsigned evidence'))
    .addOption(new Option('--no-sigstore', 'bypass Sigstore: evidence is not logged and not timestamped'))
    .addOption(new Option('--no-gpu', 'leave the GPU alone'))
    .addHelpText(
      'after',
      `\nExamples:\n${examples.map((line) => `  $ esoteric-appliance ${line}`).join('\n')}`,
    );
  excludeEachOther(made as unknown as Command, 'tpm', 'no-tpm');
  return made;
}

/** Both set one value, so that the later would silently win. */
function excludeEachOther(made: Command, ...options: readonly [string, string]): void {
  const given = new Set<string>();
  for (const option of options) {
    made.on(`option:${option}`, () => {
      if (given.add(option).size > 1) {
        made.error(`error: options ${options.map((one) => `'--${one}'`).join(' and ')} exclude each other`);
      }
    });
  }
}

/** Loaded late, as everything that a command works with: help and usage errors come at once. */
export async function configOf(options: CommonOptions): Promise<Config> {
  const { loadConfig } = await import('../appliance/config.ts');
  return loadConfig({
    path: options.config,
    overrides: {
      stateDir: options.stateDir,
      tcti: typeof options.tpm === 'string' ? options.tpm : undefined,
      noTpm: options.tpm === false,
      noSigstore: options.sigstore === false,
      noGpu: options.gpu === false,
      interfaces: options.interface,
    },
  });
}

/** The common options as arguments again, for another process of this program. */
export function commonArguments(options: CommonOptions): string[] {
  return [
    ...(options.config === undefined ? [] : ['--config', options.config]),
    ...(options.stateDir === undefined ? [] : ['--state-dir', options.stateDir]),
    ...(typeof options.tpm === 'string' ? ['--tpm', options.tpm] : []),
    ...(options.tpm === false ? ['--no-tpm'] : []),
    ...(options.sigstore === false ? ['--no-sigstore'] : []),
  ];
}

/** The exit status that a command left; set by `ending`, read by the program. */
export const ended: { status: ExitStatus } = { status: 0 };

/** Runs the body of a command: its status is the exit status, a failure is told. */
export async function ending(
  json: boolean | undefined,
  body: () => Promise<ExitStatus | undefined> | Promise<void>,
): Promise<void> {
  try {
    ended.status = (await body()) ?? 0;
  } catch (error) {
    ended.status = reportFailure(error, json === true);
  }
}

/** Aborted by the first SIGINT or SIGTERM; one that comes half a second later or more ends the process at once. */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  let first = 0;
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (!controller.signal.aborted) first = performance.now();
      else if (performance.now() - first > 500) process.exit(1);
      controller.abort();
    });
  }
  return controller.signal;
}
