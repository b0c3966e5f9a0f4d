// Credentials that stand in the environment of a process which is not to have them. Deleting a variable leaves its bytes where the kernel
// laid them at the start, for /proc/PID/environ to show; so they are overwritten first, and never read.
import { getenv, strlen, viewMemory } from './libc.ts';

/** What the AWS SDK takes for credentials; the other AWS_ variables name files, roles and regions. What a CI job proves itself by. */
const secret =
  /^(AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|.*_TOKEN|BEARER_TOKEN_.*)|SIGSTORE_ID_TOKEN|ACTIONS_ID_TOKEN_REQUEST_(TOKEN|URL))$/;

export interface SetAside {
  /** Variables that hold no secret, for a process that has use for them. */
  readonly handed: Readonly<Record<string, string>>;
  /** Names of those that were wiped. */
  readonly wiped: readonly string[];
}

/** Takes what leads to a delivery's credentials out of this process's environment; secrets are overwritten in memory. */
export function dropDeliveryVariables(): SetAside {
  const names = Object.keys(process.env).filter((name) => name.startsWith('AWS_') || secret.test(name));
  const handed: Record<string, string> = {};
  const wiped: string[] = [];
  for (const name of names) {
    if (secret.test(name)) {
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
