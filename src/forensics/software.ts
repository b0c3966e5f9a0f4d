// Collectors of the software: digests of what this program consists of and of what it has loaded, the packages that these belong to,
// and all packages of the machine (dpkg-query(1), rpm(8)). A changed binary shows against another machine, or the distributor's list.
import { readdir, readFile, realpath } from 'node:fs/promises';
import { delimiter, join, relative } from 'node:path';
import { requireChild, runChild } from '../host/child.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import type { Collector } from './collect.ts';
import { digestsOf } from './digests.ts';

/** Programs that a node runs beside itself. */
const programs = ['ip', 'wg', 'wireguard-go', 'journalctl', 'dmesg'];
/** Of the program's own directory: all files below. What npm installed is told by npm's own list, which has its digests. */
const own = ['package.json', 'dist', 'src', 'policies', 'provisioning', 'appliance'];
const installed = 'node_modules/.package-lock.json';

export function softwareCollectors(root: string, proc = '/proc'): Collector[] {
  return [
    {
      name: 'host binaries',
      path: 'host/binaries.jsonl',
      source: `${proc}/self/maps, the programs that a node runs, and the files of this program: what ran, by digest and package`,
      volatility: 'disk',
      limitBytes: 4 << 20,
      redact: false, // Versions read like addresses.
      gather: () => binaries(root, proc),
    },
    {
      name: 'host packages',
      path: 'host/packages.tsv',
      source: '`dpkg-query --show` or `rpm --query --all`: which packages were installed, in which version',
      volatility: 'configuration',
      limitBytes: 4 << 20,
      redact: false, // Versions read like addresses.
      gather: packages,
    },
  ];
}

/** One line a file: `{path, sha256, package?}`; of one that cannot be read `sha256` is null. */
async function binaries(root: string, proc: string): Promise<string> {
  const loaded = await loadedFiles(proc);
  const beside = (await Promise.all(programs.map(findProgram))).filter((path) => path !== undefined);
  const outside = [...new Set([...loaded, ...beside])].sort();
  const files = [...outside, ...(await ownFiles(root))];
  const [digests, owners] = await Promise.all([digestsOf(files), ownersOf(outside)]);
  const line = (path: string): string => {
    const owner = owners.get(path);
    const found = { path, sha256: digests.get(path) ?? null };
    return `${JSON.stringify(owner === undefined ? found : { ...found, package: owner })}\n`;
  };
  return files.map(line).join('');
}

/** What is mapped executable: Node itself, shared libraries, native modules (proc_pid_maps(5)). */
async function loadedFiles(proc: string): Promise<string[]> {
  const maps = await readFile(join(proc, 'self/maps'), 'utf8');
  return [...new Set(maps.split('\n').flatMap((entry) => /^\S+ \S*x\S* .*?(\/.*)$/.exec(entry)?.[1] ?? []))];
}

async function findProgram(name: string): Promise<string | undefined> {
  for (const directory of (process.env.PATH ?? '/usr/bin').split(delimiter)) {
    const found = await realpath(join(directory, name)).catch(() => undefined);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function ownFiles(root: string): Promise<string[]> {
  const below = async (name: string): Promise<string[]> => {
    const entries = await readdir(join(root, name), { recursive: true, withFileTypes: true }).catch(() => []);
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  };
  const [manifest = '', ...directories] = own;
  const found = (await Promise.all(directories.map(below))).flat();
  return [join(root, manifest), ...found, join(root, installed)].sort((a, b) =>
    relative(root, a) < relative(root, b) ? -1 : 1,
  );
}

/** `name version` by path, of those that belong to a package. */
async function ownersOf(paths: readonly string[]): Promise<Map<string, string>> {
  try {
    return await debianOwners(paths);
  } catch {}
  try {
    return await rpmOwners(paths);
  } catch {
    return new Map();
  }
}

/** Where /usr was merged, dpkg may know a file by its old place. */
async function debianOwners(paths: readonly string[]): Promise<Map<string, string>> {
  const patterns = paths.flatMap((path) => [path, path.replace(/^\/usr\//, '/')]);
  const { stdout } = await runChild('dpkg-query', ['--search', ...new Set(patterns)]);
  const owners = new Map<string, string>();
  for (const entry of stdout.toString().split('\n')) {
    const [, names, place] = /^(\S.*?): (\/.*)$/.exec(entry) ?? [];
    const path = paths.find((one) => one === place || one.replace(/^\/usr\//, '/') === place);
    if (names !== undefined && path !== undefined) owners.set(path, names.split(', ')[0] ?? names);
  }
  const wanted = [...new Set(owners.values())];
  if (wanted.length === 0) return owners;
  const shown = await runChild('dpkg-query', [
    '--show',
    `--showformat=\${binary:Package}\\t\${Version}\\n`,
    ...wanted,
  ]);
  const versions = new Map(
    shown.stdout
      .toString()
      .trim()
      .split('\n')
      .map((entry) => entry.split('\t') as [string, string]),
  );
  return new Map([...owners].map(([path, name]) => [path, `${name} ${versions.get(name) ?? ''}`.trim()]));
}

async function rpmOwners(paths: readonly string[]): Promise<Map<string, string>> {
  const owners = new Map<string, string>();
  for (const path of paths) {
    const { status, stdout } = await runChild('rpm', [
      '--query',
      '--queryformat=%{NAME} %{EVR}.%{ARCH}\n',
      '--file',
      path,
    ]);
    const owner = stdout.toString().split('\n')[0];
    if (status === 0 && owner) owners.set(path, owner);
  }
  return owners;
}

/** Name, version, architecture and status, with tabs between. */
async function packages(): Promise<Uint8Array> {
  const queries: [string, string[]][] = [
    [
      'dpkg-query',
      ['--show', `--showformat=\${Package}\\t\${Version}\\t\${Architecture}\\t\${db:Status-Abbrev}\\n`],
    ],
    ['rpm', ['--query', '--all', '--queryformat=%{NAME}\t%{EVR}\t%{ARCH}\tinstalled\n']],
  ];
  const refusals: string[] = [];
  for (const [command, words] of queries) {
    try {
      const { stdout } = await requireChild(command, words);
      if (stdout.length > 0) return stdout;
      refusals.push(`\`${command}\` knows of none`);
    } catch (error) {
      refusals.push(reasonOf(error).replace(/\.$/, ''));
    }
  }
  throw new Failure('packages-unknown', refusals.join('; '));
}
