// The other end of a command from afar: signing it, off the node.
import { createPrivateKey, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import type { ZeroizeLevel } from '../interlock/causes.ts';
import { commandBytes, commandFormat, type RemoteCommand } from '../interlock/detectors/remote-command.ts';

/** @throws Failure `command-key-unusable`, `usage`. */
export function signCommand(order: {
  readonly key: string;
  readonly node: string;
  readonly number: number;
  readonly level: ZeroizeLevel;
  readonly reason: string;
}): { readonly command: RemoteCommand; readonly signature: string } {
  const { key: path, node, number, level, reason } = order;
  if (!Number.isSafeInteger(number) || number < 1) {
    throw new Failure('usage', 'The number of a command is a whole number from 1.', {
      remedy: 'Take the time, `date +%s`, or one more than the last.',
      status: exitStatus.usage,
    });
  }
  const command = { format: commandFormat, node, number, action: 'zeroize', level, reason } as const;
  try {
    const key = createPrivateKey(readFileSync(path));
    if (key.asymmetricKeyType !== 'ed25519') throw new TypeError('it is not an Ed25519 key');
    return { command, signature: sign(null, commandBytes(command), key).toString('base64') };
  } catch (cause) {
    throw new Failure('command-key-unusable', `The key ${path} cannot sign: ${reasonOf(cause)}.`, {
      remedy: 'Make one with `openssl genpkey -algorithm ed25519 -out key.pem`.',
      status: exitStatus.usage,
      cause,
    });
  }
}

/** A command as `remote sign` printed it. @throws Failure `command-unreadable`, status 2. */
export function readSigned(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new Failure('command-unreadable', `The command ${path} cannot be read: ${reasonOf(cause)}.`, {
      kept: 'Nothing was done.',
      remedy: 'Name the file that the output of `esoteric-appliance remote sign` went to.',
      status: exitStatus.usage,
      cause,
    });
  }
}
