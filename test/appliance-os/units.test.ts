// The systemd units: checked by systemd itself, and the privileges that they leave tried on the real program.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exitStatus } from '../../src/host/failure.ts';
import { findUser } from '../../src/host/privileges.ts';

const repository = resolve(import.meta.dirname, '../..');
const units = ['esoteric-appliance.service', 'esoteric-courier.service'] as const;
const unitPath = (unit: string): string => join(repository, 'appliance/systemd', unit);
const program = join(repository, 'scripts/esoteric-appliance');

/** Values of a key, over all its lines, in one unit. */
const valuesOf = (unit: string, key: string): string[] =>
  readFileSync(unitPath(unit), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith(`${key}=`))
    .flatMap((line) => line.slice(key.length + 1).split(' '))
    .filter((value) => value !== '');

const analyze = (...args: string[]) => spawnSync('systemd-analyze', args, { encoding: 'utf8' });
const noSystemd = analyze('--version').status === 0 ? '' : ' (skipped: systemd-analyze is not installed)';
const isRoot = process.geteuid?.() === 0;
const noPrivilege = isRoot ? '' : ' (skipped: needs root)';

let scratch = '';
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'ea-units-'));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

describe(`the units${noSystemd}`, () => {
  it.skipIf(noSystemd !== '')('are valid to systemd, and every program that they start is there', () => {
    const here = units.map((unit) => {
      const text = readFileSync(unitPath(unit), 'utf8');
      expect(text).toContain('/opt/esoteric-appliance/appliance/bin/');
      writeFileSync(join(scratch, unit), text.replaceAll('/opt/esoteric-appliance', repository));
      return join(scratch, unit);
    });
    const { status, stderr } = analyze('verify', '--man=no', ...here);
    expect(stderr).not.toContain(scratch);
    expect(status).toBe(0);
  });

  // Exposure in tenths, as systemd counts it: 0 is a sandbox without anything, 9.6 no sandbox at all.
  it.skipIf(noSystemd !== '').each([
    ['esoteric-appliance.service', 30],
    ['esoteric-courier.service', 15],
  ])('%s exposes little', (unit, threshold) => {
    const { status, stdout } = analyze(
      'security',
      '--offline=true',
      `--threshold=${threshold}`,
      unitPath(unit),
    );
    expect(stdout).toContain('Overall exposure level');
    expect(status).toBe(0);
  });

  it.skipIf(noSystemd !== '')(
    'allow no system call that reads other processes or changes the machine',
    () => {
      for (const unit of units) expect(valuesOf(unit, 'SystemCallFilter')[0]).toBe('@system-service');
      const allowed = analyze('syscall-filter', '@system-service').stdout.split(/\s+/);
      expect(allowed).toContain('@network-io');
      for (const group of ['@debug', '@mount', '@module', '@raw-io', '@reboot', '@swap', '@clock'])
        expect(allowed).not.toContain(group);
    },
  );
});

describe('the service of the node', () => {
  it('is started again after a crash, but neither when it is zeroized nor when its configuration is wrong', () => {
    expect(valuesOf(units[0], 'Restart')).toEqual(['on-failure']);
    expect(valuesOf(units[0], 'RestartPreventExitStatus').map(Number)).toEqual([
      exitStatus.usage,
      exitStatus.zeroized,
    ]);
  });

  it('stops the daemon alone at first, since a helper that ends by itself is a lost link key', () => {
    expect(valuesOf(units[0], 'KillMode')).toEqual(['mixed']);
  });

  it('leaves the courier running when it stops', () => {
    expect(valuesOf(units[0], 'Wants')).toContain(units[1]);
    for (const key of ['BindsTo', 'PartOf', 'Requires']) expect(valuesOf(units[1], key)).toEqual([]);
  });

  it.skipIf(!isRoot)(
    `runs with the capabilities and the locked memory that the unit leaves it${noPrivilege}`,
    async () => {
      const state = join(scratch, 'state');
      const flags = ['--no-tpm', '--no-sigstore', '--state-dir', state];
      // Another user's, as the courier's are.
      const config = join(scratch, 'config.toml');
      writeFileSync(config, '[courier]\nuser = "nobody"\nspawn = false\n');
      const provisioned = spawnSync(program, ['provision', '--config', config, ...flags], {
        encoding: 'utf8',
      });
      expect(provisioned.stderr + provisioned.status).toMatch(/0$/);
      const capabilities = valuesOf(units[0], 'CapabilityBoundingSet').map((name) =>
        name.replace('CAP_', '+').toLowerCase(),
      );
      const memory = Math.min(bytes(valuesOf(units[0], 'LimitMEMLOCK')[0]), hardLimit());
      const child = start('prlimit', [
        `--memlock=${memory}:${memory}`,
        'setpriv',
        '--no-new-privs',
        `--bounding-set=-all,${capabilities.join(',')}`,
        ...[program, 'run', '--config', config, ...flags],
      ]);
      try {
        await until(() => child.log().includes(' is running.'), child);
        const status = readFileSync(`/proc/${child.process.pid}/status`, 'utf8');
        expect(status).toMatch(/CapEff:\s+0*1003\n/);
        expect(Number(/VmLck:\s+(\d+)/.exec(status)?.[1])).toBeGreaterThan(0);
        for (const command of ['alert test', 'collect-forensics']) {
          const asked = spawnSync(program, [...command.split(' '), '--config', config, ...flags]);
          expect(asked.status).toBe(exitStatus.done);
        }
        // Handed over: the job, which is the courier's, and the archive, which its group may read.
        const courier = findUser('nobody');
        const [job = ''] = readdirSync(join(state, 'spool')).filter((name) => name.includes('-alert-'));
        expect(statSync(join(state, 'spool', job)).uid).toBe(courier.uid);
        for (const name of readdirSync(join(state, 'bundles')))
          expect(statSync(join(state, 'bundles', name)).gid).toBe(courier.gid);
        expect(child.log()).not.toMatch(/EPERM|EACCES|not permitted/i);
      } finally {
        expect(await child.stop()).toBe(exitStatus.done);
      }
    },
  );
});

describe('the service of the courier', () => {
  it('has no capability, no device, and can write nothing but what it delivers from', () => {
    expect(readFileSync(unitPath(units[1]), 'utf8')).toMatch(/^CapabilityBoundingSet=$/m);
    expect(valuesOf(units[1], 'PrivateDevices')).toEqual(['yes']);
    expect(valuesOf(units[1], 'NoNewPrivileges')).toEqual(['yes']);
    expect(valuesOf(units[1], 'ProtectSystem')).toEqual(['strict']);
    expect(valuesOf(units[1], 'User')).toEqual(['esoteric-courier']);
    expect(valuesOf(units[1], 'ReadWritePaths')).toEqual(
      ['spool', 'courier', 'receipts'].map((name) => `/var/lib/esoteric-appliance/${name}`),
    );
  });

  it('stays although its standard input is /dev/null, as every service has it', async () => {
    const flags = ['--no-tpm', '--no-sigstore', '--state-dir', join(scratch, 'state')];
    expect(spawnSync(program, ['provision', ...flags]).status).toBe(0);
    const child = start(program, ['courier', ...flags]);
    try {
      await until(() => ownOutbox(child.process.pid), child);
      await sleep(1000);
      expect(child.process.exitCode).toBeNull();
    } finally {
      expect(await child.stop()).toBe(exitStatus.done);
    }
  });
});

describe('links that a killed node left behind', () => {
  const script = join(repository, 'appliance/bin/leftover-links');
  const name = `eaos${process.pid % 100_000}`;
  const withLinks = `
[[links]]
name = "${name}"
address = "10.66.0.1/24"

[[links.peers]]
name = "beta"
enrolment = "/nowhere"
allowed_ips = ["10.66.0.2/32"]

[[links]]
name = "lo"
address = "10.67.0.1/24"
`;

  it.skipIf(!isRoot)(`are removed, and an interface that was there before is not${noPrivilege}`, () => {
    // The installed layout, on the sources: the launcher of the package is replaced by that of the checkout.
    const bin = join(scratch, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'leftover-links'), readFileSync(script), { mode: 0o755 });
    const config = join(scratch, 'config.toml');
    writeFileSync(config, withLinks);
    writeFileSync(join(bin, 'esoteric-appliance'), `#!/bin/sh\nexec ${program} "$@" --config ${config}\n`, {
      mode: 0o755,
    });
    const noted = join(scratch, 'links');
    const inNamespace = (...lines: string[]) =>
      spawnSync('unshare', ['--net', '--mount', 'sh', '-ec', lines.join('\n')], { encoding: 'utf8' });
    const result = inNamespace(
      'mount -t sysfs none /sys',
      `${bin}/leftover-links note ${noted}`,
      `ip link add ${name} type veth peer name ${name}b`,
      `${bin}/leftover-links remove ${noted}`,
      `${bin}/leftover-links remove ${noted}`,
      'ls /sys/class/net',
    );
    expect(result.stderr).toBe('');
    expect(result.status).toBe(0);
    expect(readFileSync(noted, 'utf8')).toBe(`${name}\n`);
    expect(result.stdout.split('\n')).not.toContain(name);
    expect(result.stdout.split('\n')).toContain('lo');
  });

  it('are none of its business where nothing was noted', () => {
    expect(spawnSync(script, ['remove', join(scratch, 'absent')]).status).toBe(0);
    expect(spawnSync(script, ['delete']).status).toBe(exitStatus.usage);
  });
});

interface Started {
  readonly process: ChildProcess;
  log(): string;
  stop(): Promise<number | null>;
}

/** A process that ends with this one; standard input is /dev/null. */
function start(command: string, args: readonly string[]): Started {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    log += chunk.toString('utf8');
  });
  return {
    process: child,
    log: () => log,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await ended;
      clearTimeout(timer);
      return child.exitCode;
    },
  };
}

async function until(condition: () => boolean, child: Started): Promise<void> {
  for (let waited = 0; waited < 20_000; waited += 50) {
    if (condition()) return;
    if (child.process.exitCode !== null) {
      throw new Error(`It ended with ${child.process.exitCode}: ${child.log()}`);
    }
    await sleep(50);
  }
  throw new Error(`It did not start: ${child.log()}`);
}

/** Whether the process holds the lock of an outbox. */
function ownOutbox(pid: number | undefined): boolean {
  return spawnSync('ls', ['-l', `/proc/${pid}/fd`], { encoding: 'utf8' }).stdout.includes('outbox.sqlite');
}

/** `64M` in bytes. */
const bytes = (size = ''): number => Number(size.replace('M', '')) * 2 ** 20;

/** What this process may raise its memory lock limit to without more privilege, in bytes. */
function hardLimit(): number {
  const line = /^Max locked memory\s+\S+\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
  return line?.[1] === 'unlimited' ? Number.POSITIVE_INFINITY : Number(line?.[1]);
}
