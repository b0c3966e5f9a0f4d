// A journal that was put aside: what journalctl is to read of it. Of a directory it reads the files that lie in it and those of its
// subdirectories that are named after a machine ID. The journal of a namespace lies in `MACHINE-ID.NAMESPACE`, which it passes over, and
// beside a directory or a file it ignores --namespace (systemd 252): so those directories are found here, and named to it.
import { readdirSync, type Stats, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { exitStatus, Failure } from '../host/failure.ts';
import type { JournalPlace } from './read.ts';

export interface OfflineJournal {
  readonly place: JournalPlace;
  /** Namespaces that lie there too, and are not read. */
  readonly others: readonly string[];
}

/**
 * `path` is a directory or a file, `namespace` empty for the default one. What cannot be looked at is left to journalctl, where no
 * namespace is asked for.
 * @throws Failure `namespace-missing`, usage: of that namespace nothing lies there.
 */
export function offlineJournal(path: string, namespace: string): OfflineJournal {
  if (statsOf(path)?.isFile()) return ofFile(path, namespace);
  const own = namespaceOf(path);
  if (namespace === '') {
    const below = own === undefined ? namespacesBelow(path) : [];
    return { place: { directories: [path] }, others: below.filter((name) => name !== '') };
  }
  if (own === namespace) return { place: { directories: [path] }, others: [] };
  const directories = journalsBelow(path)
    .filter((name) => namespaceOf(name) === namespace)
    .map((name) => join(path, name));
  if (directories.length > 0) return { place: { directories }, others: [] };
  throw namespaceMissing(
    `No journal of the namespace ${namespace} lies in ${path}; ${foundIn(namespacesBelow(path))}.`,
  );
}

function ofFile(file: string, namespace: string): OfflineJournal {
  if (namespace === '' || namespaceOf(dirname(file)) === namespace) return { place: { file }, others: [] };
  throw namespaceMissing(
    `${file} is one file, and does not lie in the directory of a namespace ${namespace}: all of it would be read, whatever the namespace.`,
  );
}

const machineDirectory = /^[0-9a-f]{32}(?:\.(.+))?$/i;

/** By the name of its directory; empty for the default one, undefined where it is not named after a machine ID. */
function namespaceOf(directory: string): string | undefined {
  const match = machineDirectory.exec(basename(directory));
  return match === null ? undefined : (match[1] ?? '');
}

/** Names of directories, in order; none where there is nothing to look at. */
function journalsBelow(path: string): string[] {
  try {
    return readdirSync(path)
      .filter((name) => machineDirectory.test(name))
      .filter((name) => statsOf(join(path, name))?.isDirectory())
      .sort();
  } catch {
    return [];
  }
}

function statsOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

const namespacesBelow = (path: string): string[] => [
  ...new Set(journalsBelow(path).flatMap((name) => namespaceOf(name) ?? [])),
];

const foundIn = (namespaces: readonly string[]): string =>
  namespaces.length === 0
    ? 'no directory there is named after a machine ID'
    : `there are: ${namespaces.map((name) => name || 'the default one').join(', ')}`;

const namespaceMissing = (message: string): Failure =>
  new Failure('namespace-missing', message, {
    kept: 'Nothing was collected.',
    remedy:
      'Name one namespace that is there, or the directory that has MACHINE-ID.NAMESPACE in it; leave --namespace out for the default one.',
    status: exitStatus.usage,
  });
