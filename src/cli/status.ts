import type { Status } from '../appliance/status.ts';
import { command, configOf, ending } from './command.ts';
import { paint, plain, printJson, printLine, table } from './output.ts';

export const statusCommand = command('status', 'state of the node, running or not', [
  'status',
  'status --json',
]).action((options) =>
  ending(options.json, async () => {
    const { statusOf } = await import('../appliance/status.ts');
    const status = await statusOf(await configOf(options));
    if (options.json) printJson(status);
    else for (const line of statusLines(status)) printLine(line);
  }),
);

const stateStyle = { running: 'green', sealed: 'cyan', zeroized: 'red', unprovisioned: 'yellow' } as const;

function statusLines(status: Status): string[] {
  const { assurance, alerts, zeroize, custody } = status;
  const rows: string[][] = [
    ['node', `${status.node}  ${paint([stateStyle[status.state], 'bold'], status.state)}`],
    ...(assurance === null ? [] : [['assurance', `TPM ${assurance.tpm}, Sigstore ${assurance.sigstore}`]]),
    ...(assurance?.notes ?? []).map((note) => ['', paint('yellow', note)]),
    ...(assurance === null || assurance.standIns.length === 0
      ? []
      : [['', paint('yellow', `stand-ins: ${assurance.standIns.join(', ')}`)]]),
    ...tpmRows(status.tpm),
    ...programRows(status.program),
    ...status.links.map((link) => [
      `link ${link.name}`,
      `${link.up ? paint('green', 'up') : paint('red', 'down')} (${link.backend})  ${link.peers
        .map(
          (peer) =>
            `${peer.name}: ${peer.latestHandshake === null ? 'no handshake yet' : `handshake ${peer.latestHandshake}`}`,
        )
        .join(', ')}`,
    ]),
    ...entropyRows(status.entropy),
    ...interlockRows(status.interlock),
    [
      'alerts',
      `${alerts.delivered} delivered, ${alerts.queued} queued, ${alerts.deadLettered} dead-lettered`,
    ],
    ...(alerts.trouble === undefined ? [] : [['', paint('red', alerts.trouble)]]),
    ...zeroizeRows(zeroize),
    ...status.asked.map(({ what, since, remedy }) => [
      'asked for',
      paint('yellow', `${what}, since ${since}: ${remedy}`),
    ]),
    ...(custody === null
      ? []
      : [
          ['custody', `${custody.sequence} records, head ${custody.hash.slice(0, 16)}…`],
          ...(custody.found?.problem == null ? [] : [['', paint('red', `BROKEN: ${custody.found.problem}`)]]),
        ]),
    ...(status.state === 'unprovisioned' ? [['next', 'esoteric-appliance provision']] : []),
    ...(status.state === 'zeroized' ? [['next', afterZeroize(zeroize)]] : []),
  ];
  return table(rows);
}

function zeroizeRows(zeroize: Status['zeroize']): string[][] {
  if (zeroize === null) return [];
  const { cause, level, at } = zeroize;
  const where = 'interface' in zeroize && zeroize.interface !== null ? ` on ${zeroize.interface}` : '';
  const rows = [['zeroized', `${cause}${where}, level ${level}, at ${at}`]];
  if (!('stages' in zeroize)) return rows;
  const { memory, kernel, tpm, disk } = zeroize.stages;
  return [
    ...rows,
    [
      '',
      `memory ${memory.micros} us; links ${kernel.micros} us, ${kernel.failures} failed; TPM ${tpm.micros} us, ${tpm.result}; disk ${disk.micros} us, ${disk.result}`,
    ],
    ...zeroize.also.map((late) => [
      '',
      `also ${late.cause}${late.interface === null ? '' : ` on ${late.interface}`}`,
    ]),
    ['bundle', zeroize.bundle ?? 'none yet'],
  ];
}

/** A purge leaves nothing in the TPM; what a lock extended there holds until the TPM is reset. */
function afterZeroize(zeroize: Status['zeroize']): string {
  const purged = zeroize?.level === 'purge';
  const then = purged ? 'start the node anew' : 'reboot, then esoteric-appliance provision --re-arm';
  return `keep the forensic bundle, ${purged ? 'then ' : ''}${then}`;
}

function tpmRows(tpm: Status['tpm']): string[][] {
  if (tpm === null) return [];
  const { answers, approval, lockout } = tpm;
  if (answers && approval === 'tpm-swapped') {
    return [['TPM', paint('red', 'is not the one of this node (tpm-swapped): check tpm.tcti')]];
  }
  if (answers && lockout === null) return [['TPM', paint('red', `cannot be asked now (${approval})`)]];
  if (!answers || lockout === null) return [['TPM', paint('red', `does not answer (${approval})`)]];
  const opens = approval === 'approved';
  const tries = `${lockout.failedTries} of ${lockout.maxTries} wrong authorizations, one is forgiven every ${lockout.recoverySeconds} s`;
  return [
    ['TPM', opens ? 'this state is approved' : paint('red', `keys do not open: ${approval}`)],
    [
      '',
      lockout.inLockout
        ? paint('red', `IN LOCKOUT (${tries}); the node's own keys are not subject to it`)
        : tries,
    ],
  ];
}

function programRows(program: Status['program']): string[][] {
  if (program === null) return [];
  const style = { verified: 'green', absent: 'yellow', failed: 'red' } as const;
  const told = (name: string, { result, detail, by, standIns }: typeof program.sbom): string => {
    const why = result === 'absent' ? '' : ` (${plain(by === undefined ? detail : `${by}: ${detail}`)})`;
    return `${name} ${paint(standIns === true ? 'yellow' : style[result], result)}${why}`;
  };
  return [
    ['program', `${program.version}, ${told('provenance', program.provenance)}`],
    ['', told('SBOM', program.sbom)],
    ...(program.changed.length === 0
      ? []
      : [['', `changed since it was packed: ${program.changed.join(', ')}`]]),
  ];
}

function entropyRows(entropy: Status['entropy']): string[][] {
  if (entropy === null || !('sources' in entropy)) return [];
  if (entropy.state === 'zeroized') return [['entropy', 'zeroized: no output']];
  const healthy = entropy.sources.filter(({ state }) => state === 'healthy').length;
  return [
    [
      'entropy',
      `${entropy.state}, ${healthy} of ${entropy.sources.length} sources healthy, ${entropy.reseeds} reseeds`,
    ],
  ];
}

/** From half of the limit on it is told as an event too. */
function silences({ main, watcher, limit }: { main: number; watcher: number; limit: number }): string {
  const line = `longest silence: main thread ${main} ms, watcher ${watcher} ms, of ${limit} ms`;
  return Math.max(main, watcher) * 2 < limit ? line : paint('yellow', line);
}

function interlockRows(interlock: Status['interlock']): string[][] {
  if (interlock === null || !('watched' in interlock)) return [];
  const watched = interlock.watched.map(
    (link) => `${link.interface} ${link.carrier ? 'carrier' : paint('red', 'no carrier')}`,
  );
  return [
    [
      'interlock',
      `${interlock.phase}; ${watched.length === 0 ? 'no interface is watched' : watched.join(', ')}`,
    ],
    ['', silences(interlock.heartbeats)],
    ...(interlock.window === null
      ? []
      : [
          [
            'window',
            `${interlock.window.reason}: ${Math.ceil(interlock.window.secondsLeft)} s, ${interlock.window.flapsLeft} flaps left`,
          ],
        ]),
  ];
}
