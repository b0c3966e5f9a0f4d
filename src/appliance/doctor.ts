// `doctor`: what this machine can and cannot do for a node, each with its remedy.
import { accessSync, constants, existsSync } from 'node:fs';
import { SecretArena } from '../host/arena.ts';
import { runChild } from '../host/child.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { listInterfaces } from '../host/netlink.ts';
import { openTpm } from '../tpm/context.ts';
import type { TpmProperties } from '../tpm/properties.ts';
import type { Config } from './config.ts';

export interface Finding {
  readonly check: string;
  readonly result: 'ok' | 'missing' | 'bypassed';
  readonly detail: string;
  readonly remedy?: string;
}

export async function examine(config: Config): Promise<Finding[]> {
  return [
    checkRoot(),
    checkMemory(),
    ...(await checkTpm(config)),
    await checkProgram('WireGuard tools', 'wg', ['--version'], 'wireguard-tools'),
    await checkWireGuard(),
    checkInterfaces(config),
    await checkProgram('journal', 'journalctl', ['--version'], 'systemd'),
    checkHardwareGenerator(),
  ];
}

const ok = (check: string, detail: string): Finding => ({ check, result: 'ok', detail });
const missing = (check: string, detail: string, remedy: string): Finding => ({
  check,
  result: 'missing',
  detail,
  remedy,
});

function checkRoot(): Finding {
  return process.geteuid?.() === 0
    ? ok('privilege', 'root')
    : missing(
        'privilege',
        'not root: links, network namespaces and /dev/tpmrm0 need it',
        'Repeat with sudo.',
      );
}

function checkMemory(): Finding {
  try {
    using arena = SecretArena.allocate();
    return ok(
      'locked memory',
      `${arena.region.byteLength >> 10} KiB can be locked and kept out of core dumps`,
    );
  } catch (error) {
    return missing('locked memory', reasonOf(error), error instanceof Failure ? (error.remedy ?? '') : '');
  }
}

async function checkTpm(config: Config): Promise<Finding[]> {
  if (config.tpm.mode === 'none') {
    return [{ check: 'TPM', result: 'bypassed', detail: 'bypassed by --no-tpm' }];
  }
  try {
    await using tpm = await openTpm({ tcti: config.tpm.tcti });
    const { manufacturer, firmware, simulator, lockout } = await tpm.properties();
    return [
      ok('TPM', `${manufacturer} ${firmware}${simulator ? ' (a simulator)' : ''}`),
      checkLockout(lockout),
    ];
  } catch (error) {
    return [missing('TPM', reasonOf(error), error instanceof Failure ? (error.remedy ?? '') : '')];
  }
}

/** Wrong authorizations and what is forgiven (TPM 2.0 Library, Part 1, section 19.8). Reading it counts nothing. */
function checkLockout({ counter, max, interval, inLockout }: TpmProperties['lockout']): Finding {
  const forgiven = interval === 0 ? 'none is forgiven' : `one is forgiven every ${interval} s`;
  const tries = `${counter} of ${max} wrong authorizations, ${forgiven}`;
  if (!inLockout) return ok('TPM lockout', tries);
  return missing(
    'TPM lockout',
    `locked out: ${tries}. What counts wrong tries refuses; what this program makes does not`,
    interval === 0
      ? 'Clear it with the lockout authorization: `tpm2_dictionarylockout --clear-lockout`.'
      : `Wait ${interval} s, or clear it with the lockout authorization: \`tpm2_dictionarylockout --clear-lockout\`.`,
  );
}

async function checkProgram(check: string, command: string, args: string[], pack: string): Promise<Finding> {
  try {
    const { stdout } = await runChild(command, args);
    return ok(check, stdout.toString().split('\n')[0] ?? command);
  } catch (error) {
    return missing(check, reasonOf(error), `apt-get install ${pack}`);
  }
}

async function checkWireGuard(): Promise<Finding> {
  if (existsSync('/sys/module/wireguard')) return ok('WireGuard', 'in the kernel');
  if (!existsSync('/dev/net/tun')) {
    return missing(
      'WireGuard',
      'neither in the kernel nor /dev/net/tun',
      'modprobe wireguard, or modprobe tun',
    );
  }
  return await checkProgram('WireGuard', 'wireguard-go', ['--version'], 'wireguard-go');
}

function checkInterfaces(config: Config): Finding {
  const present = listInterfaces().map(({ name }) => name);
  const absent = config.node.interfaces.filter(
    (name) => !/^(any|CPU\d*)$/.test(name) && !present.includes(name),
  );
  if (absent.length > 0) {
    return missing(
      'interfaces',
      `${absent.join(', ')} not here`,
      `Name some of ${present.join(', ')} with -I.`,
    );
  }
  if (config.node.interfaces.length === 0) {
    return missing('interfaces', 'none is watched, so no cable can zeroize this node', 'Name them with -I.');
  }
  return ok('interfaces', config.node.interfaces.join(', '));
}

function checkHardwareGenerator(): Finding {
  try {
    accessSync('/dev/hwrng', constants.R_OK);
    return ok('hardware generator', '/dev/hwrng');
  } catch {
    return missing(
      'hardware generator',
      'no /dev/hwrng',
      'None is needed; other noise sources carry the credit.',
    );
  }
}
