// `doctor`: what this machine can and cannot do for a node, each with its remedy.
import { accessSync, constants, existsSync } from 'node:fs';
import { attestationKinds } from '../attestation/program-format.ts';
import { SecretArena } from '../host/arena.ts';
import { runChild } from '../host/child.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { listInterfaces } from '../host/netlink.ts';
import { watchedInterfaces } from '../interlock/watched.ts';
import { outboxRows } from './alerts.ts';
import type { Config } from './config.ts';
import { checkCustody } from './custody.ts';
import { custodyRemedy } from './custody-anchor.ts';
import { checkPolicies } from './doctor-policies.ts';
import { checkTpm } from './doctor-tpm.ts';
import { requireEvidenceSettings } from './evidence.ts';
import { type Finding, missing, ok } from './finding.ts';
import { readNodeRecord } from './node-record.ts';
import { appraiseProgram, kindNames, lacking } from './program.ts';
import { stateLayout } from './state-layout.ts';
import { askedOfStopped, type Status, statusOfRunning } from './status.ts';
import { goInClear, stuckOf, uploadTarget } from './uploads.ts';

export async function examine(config: Config): Promise<Finding[]> {
  return [
    checkRoot(),
    checkMemory(),
    ...(await checkTpm(config)),
    await checkProgram('WireGuard tools', 'wg', ['--version'], 'wireguard-tools'),
    await checkWireGuard(),
    checkInterfaces(config),
    checkPolicies(),
    await checkProgram('journal', 'journalctl', ['--version'], 'systemd'),
    checkHardwareGenerator(),
    await checkEvidence(config),
    await checkProgramItself(config),
    checkDelivery(config),
    ...(await checkMaintenance(config)),
    ...(await checkCustodyLog(config)),
  ];
}

async function checkEvidence(config: Config): Promise<Finding> {
  const { case_key: caseKey, recipients } = config.forensics;
  try {
    await requireEvidenceSettings(config);
    const encrypted = recipients.length === 0 ? 'in clear' : `encrypted to ${recipients.length}`;
    return ok(
      'evidence',
      `${encrypted}, under ${caseKey === '' ? 'case keys that are thrown away' : caseKey}`,
    );
  } catch (error) {
    return missing('evidence', reasonOf(error), error instanceof Failure ? (error.remedy ?? '') : '');
  }
}

/** Of the program that asks, which is the node's own where both were installed together. */
async function checkProgramItself(config: Config): Promise<Finding> {
  const program = await appraiseProgram(config);
  const told = attestationKinds.map(
    (kind) => `${kindNames[kind]} ${program[kind].result}: ${program[kind].detail}`,
  );
  const detail = `${program.version}, ${told.join('; ')}`;
  const wrong =
    attestationKinds.some((kind) => program[kind].result === 'failed') || lacking(config, program).length > 0;
  return wrong
    ? missing(
        'program',
        detail,
        'Install the program that was attested, or look at [program] in the configuration.',
      )
    : ok('program', detail);
}

function checkDelivery(config: Config): Finding {
  const target = uploadTarget(config);
  if (config.forensics.upload === '') return ok('delivery', `none: bundles stay in ${target}`);
  try {
    const stuck = stuckOf(outboxRows(config));
    if (stuck === null && goInClear(config))
      return missing(
        'delivery',
        `bundles go to ${target} in clear: whoever is on the way reads them`,
        'Give an https endpoint, or encrypt them (forensics.recipients).',
      );
    if (stuck === null) return ok('delivery', `bundles go to ${target}`);
    const waiting = `${stuck.bundles} waiting since ${stuck.since} for a way to ${target}: ${stuck.why}`;
    return missing('delivery', waiting, 'Mend that, then run `esoteric-appliance upload retry`.');
  } catch (error) {
    return missing('delivery', reasonOf(error), error instanceof Failure ? (error.remedy ?? '') : '');
  }
}

/**
 * What windows have left to be done; nothing to say where there is no node yet. Who runs knows it: for others it follows from the whole
 * custody log, which a node that makes a bundle would read on its main thread.
 */
async function checkMaintenance(config: Config): Promise<Finding[]> {
  const layout = stateLayout(config.node.state_dir);
  if (!existsSync(layout.node)) return [];
  try {
    const running = await statusOfRunning(layout);
    const asked = running?.asked ?? askedOfStopped(config, layout, readNodeRecord(layout));
    return asked.map(({ what, since, remedy }) =>
      missing(`maintenance: ${what}`, `asked for since ${since}, when a window ended`, remedy),
    );
  } catch (error) {
    return [missing('maintenance', reasonOf(error), error instanceof Failure ? (error.remedy ?? '') : '')];
  }
}

/** As a running node found it, else as its chain and the TPM say now; nothing to say where there is no node yet. */
async function checkCustodyLog(config: Config): Promise<Finding[]> {
  const layout = stateLayout(config.node.state_dir);
  if (!existsSync(layout.node)) return [];
  try {
    const running = await statusOfRunning(layout);
    const { problem, seen } =
      running === undefined ? await custodyOfStopped(config) : custodyOfRunning(running);
    return [
      problem === undefined
        ? ok('custody log', `whole, ${seen}`)
        : missing('custody log', problem, custodyRemedy),
    ];
  } catch (error) {
    return [missing('custody log', reasonOf(error), error instanceof Failure ? (error.remedy ?? '') : '')];
  }
}

/** `seen`: how it is known to be whole. */
interface CustodySeen {
  readonly problem: string | undefined;
  readonly seen: string;
}

function custodyOfRunning({ custody }: Status): CustodySeen {
  const { found } = custody ?? {};
  return { problem: found?.problem ?? undefined, seen: `as of ${found?.at ?? 'no time yet'}` };
}

async function custodyOfStopped(config: Config): Promise<CustodySeen> {
  const { problem, tpm } = await checkCustody(config);
  const chain = 'by its chain';
  if (tpm === null) return { problem, seen: chain };
  return {
    problem,
    seen:
      'why' in tpm
        ? `${chain}; the TPM was not asked: ${tpm.why}`
        : `${chain}, and what the TPM was told up to record ${tpm.followed}`,
  };
}

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
  const none = 'is watched, so no cable can zeroize this node';
  if (config.node.interfaces.length === 0) {
    return missing('interfaces', `none ${none}`, 'Name them with -I.');
  }
  const named = config.node.interfaces.join(', ');
  if (config.node.interfaces.includes('any') && watchedInterfaces(config.node.interfaces).length === 0) {
    const remedy = `Plug one in, or name one of ${present.join(', ')} with -I: those have no device behind them.`;
    return missing('interfaces', `${named}: none is physical here, and none ${none}`, remedy);
  }
  return ok('interfaces', named);
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
