// Commands from afar: taken from the control socket or from a directory, judged, and each number used once. The number is on disk
// before the command is obeyed, so that no restart makes it good again; a disk that takes no number does not make a zeroize wait.
import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import {
  type CommandVerdict,
  commandKey,
  judgeCommand,
  longestCommand,
  type RemoteCommand,
} from '../interlock/detectors/remote-command.ts';
import type { Config } from './config.ts';
import type { StateLayout } from './state-layout.ts';

type Refusal = Extract<CommandVerdict, { refused: string }>['refused'] | 'no key is configured';

export interface RemoteCommandsOptions {
  readonly config: Config;
  readonly layout: StateLayout;
  readonly node: string;
  readonly onRefused: (why: string, from: string) => void;
  /** The number of a command could not be kept: after a restart it is good again. */
  readonly onUnkept: (number: number, why: string) => void;
  readonly onAccepted: (command: RemoteCommand) => void;
}

export class RemoteCommands {
  readonly #options: RemoteCommandsOptions;
  readonly #key: ReturnType<typeof commandKey> | undefined;
  /** The last number that this process has accepted, on disk or not. */
  #used = 0;

  /** @throws Failure `command-key-unusable`. */
  constructor(options: RemoteCommandsOptions) {
    this.#options = options;
    const { command_key: path } = options.config.interlock;
    if (path !== '') this.#key = keyAt(path);
  }

  /** @throws Failure `command-refused` with the reason; what is accepted has been handed on. */
  obey(text: string, from: string): RemoteCommand {
    const { node, onAccepted, onRefused } = this.#options;
    const verdict: CommandVerdict | { readonly refused: Refusal } =
      this.#key === undefined
        ? { refused: 'no key is configured' }
        : judgeCommand(text, { node, key: this.#key, lastNumber: this.#lastNumber() });
    if ('refused' in verdict) {
      onRefused(verdict.refused, from);
      throw new Failure('command-refused', `The command was refused: ${verdict.refused}.`, {
        kept: 'Nothing was done.',
        remedy: this.#remedyOf(verdict.refused),
      });
    }
    this.#keep(verdict.accepted.number);
    onAccepted(verdict.accepted);
    return verdict.accepted;
  }

  /** Takes what has been dropped into the directory. Each file is removed before it is obeyed, refused ones as well. */
  sweep(): void {
    const { command_directory: directory } = this.#options.config.interlock;
    if (directory === '') return;
    for (const name of readdirSync(directory)
      .filter((entry) => /^[^.].*\.json$/.test(entry))
      .toSorted()) {
      const path = join(directory, name);
      const text = readDropped(path);
      rmSync(path, { force: true, recursive: true });
      try {
        this.obey(text, name);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
      }
    }
  }

  #remedyOf(refused: Refusal): string {
    const last = this.#lastNumber();
    return {
      'no key is configured': 'Name the public key of whoever may command in interlock.command_key.',
      malformed: 'Give the whole output of `esoteric-appliance remote sign`, as it was printed.',
      'not for this node': `Sign it for this node: --node ${this.#options.node}.`,
      'wrong signature':
        'Sign it with the private key to interlock.command_key; what was signed cannot be edited.',
      replayed:
        last === Number.MAX_SAFE_INTEGER
          ? `Remove ${this.#options.layout.commandNumber}, which cannot be read; then sign it with a number above all that were used.`
          : `Sign it with a number above ${last}, the last that was obeyed, such as the time: --number $(date +%s).`,
    }[refused];
  }

  #keep(number: number): void {
    this.#used = number;
    try {
      writeDurably(this.#options.layout.commandNumber, `${number}\n`);
    } catch (error) {
      this.#options.onUnkept(number, reasonOf(error));
    }
  }

  /** Fails closed: a number that cannot be read is above every other. */
  #lastNumber(): number {
    const text = readIfPresent(this.#options.layout.commandNumber);
    if (text === undefined) return this.#used;
    return /^\d{1,16}\n$/.test(text) ? Math.max(this.#used, Number(text)) : Number.MAX_SAFE_INTEGER;
  }
}

/** A plain file of a command's size; anything else is as good as empty. */
function readDropped(path: string): string {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(fd);
      return stat.isFile() && stat.size <= longestCommand ? readFileSync(fd, 'utf8') : '';
    } finally {
      closeSync(fd);
    }
  } catch {
    return '';
  }
}

function keyAt(path: string): ReturnType<typeof commandKey> {
  try {
    return commandKey(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new Failure('command-key-unusable', `The key ${path} cannot be used: ${reasonOf(cause)}`, {
      kept: 'No key has been unsealed.',
      remedy: 'Make one with `openssl genpkey -algorithm ed25519`, and put its public half there in PEM.',
      status: exitStatus.usage,
      cause,
    });
  }
}
