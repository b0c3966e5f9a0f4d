// Credentials that stand in the environment of a process which is not to have them. Deleting a variable leaves its bytes where the kernel
// laid them at the start, for /proc/PID/environ to show; so they are overwritten first, and never read.
import { getenv, strlen, viewMemory } from './libc.ts';

/** What the AWS SDK takes for credentials; the other AWS_ variables name files, roles and regions. */
const secretAws = /^AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|.*_TOKEN|BEARER_TOKEN_.*)$/;

export interface SetAside {
  /** Variables that hold no secret, for a process that has use for them. */
  readonly handed: Readonly<Record<string, string>>;
  /** Names of those that were wiped. */
  readonly wiped: readonly string[];
}

/** Takes every AWS_ variable out of this process's environment; secret ones are overwritten in memory. */
export function dropAwsVariables(): SetAside {
  const names = Object.keys(process.env).filter((name) => name.startsWith('AWS_'));
  const handed: Record<string, string> = {};
  const wiped: string[] = [];
  for (const name of names) {
    if (secretAws.test(name)) {
      wipe(name);
      wiped.push(name);
    } else handed[name] = process.env[name] ?? '';
    delete process.env[name];
  }
  return { handed, wiped };
}

function wipe(name: string): void {
  const address = BigInt(getenv(name));
  if (address === 0n) return;
  const length = Number(strlen(address));
  if (length > 0) viewMemory(address, length).fill(0);
}
