// Where many bundles lie: a directory, or a prefix of a bucket, from which they are fetched one at a time, so that no more than one
// takes room here.
import { type Dirent, existsSync, lstatSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseUploadUrl } from '../forensics/deliver.ts';
import { largestStatement, sigstoreName } from '../forensics/format.ts';
import { fetchObject, listObjects, type S3Place } from '../forensics/s3-fetch.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';

/** More at once is a mistake in the path, or an attempt to keep a verifier busy. */
const mostBundles = 10_000;
/** Directories of what is fetched begin so, with the process whose they are. */
const fetched = 'esoteric-appliance-verify-';
const archivePattern = /\.tar\.gz(\.age)?$/;

export interface BundleSource extends Disposable {
  /** Names of the archives, sorted. */
  readonly archives: readonly string[];
  /** Signature files whose archive is not there. */
  readonly strays: readonly string[];
  /** What lies there and is not looked at, sorted by name. */
  readonly notRead: readonly NotRead[];
  open(archive: string): Promise<OpenBundle>;
}

export interface NotRead {
  readonly name: string;
  /** Such as `symbolic link`. */
  readonly what: string;
  /** Named as the archive of a bundle is. */
  readonly bundle: boolean;
}

/** The two files, until it is disposed of. The second may be missing. */
export interface OpenBundle extends Disposable {
  readonly archive: string;
  readonly sigstore: string;
}

/**
 * Folders below it too; symbolic links are not followed, but named.
 * @throws Failure `bundles-missing`, `bundles-too-many`, `directory-unreadable`; status 2.
 */
export function directorySource(directory: string): BundleSource {
  const notRead: NotRead[] = [];
  const found = sorted([...filesBelow(directory, notRead)], directory, notRead);
  return {
    ...found,
    open: async (name) => {
      const archive = join(directory, name);
      return { archive, sigstore: sigstoreName(archive), [Symbol.dispose]: () => {} };
    },
    [Symbol.dispose]: () => {},
  };
}

/** Names below it. Not by the recursion of `readdirSync`, which follows links out of it. */
function* filesBelow(directory: string, notRead: NotRead[], folder = ''): Generator<string> {
  for (const entry of entriesOf(join(directory, folder))) {
    const name = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesBelow(directory, notRead, name);
    else if (entry.isFile()) yield name;
    else notRead.push({ name, what: kindOf(entry), bundle: archivePattern.test(name) });
  }
}

const kindOf = (entry: Dirent): string =>
  entry.isSymbolicLink() ? 'symbolic link' : entry.isFIFO() ? 'FIFO' : entry.isSocket() ? 'socket' : 'device';

function entriesOf(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    throw new Failure('directory-unreadable', `${directory} cannot be read: ${reasonOf(error)}`, {
      remedy: 'Make it readable, or verify a copy without it: bundles in it would be missed.',
      status: exitStatus.usage,
    });
  }
}

/**
 * Everything under a prefix, or the one archive that it names. At most `archiveBytes` and one byte of an archive are fetched, so
 * that what is larger shows. @throws Failure `download-…`; `bundles-missing`, `bundles-too-many`.
 */
export async function bucketSource(
  place: S3Place,
  archiveBytes: number,
  onTemporary?: (directory: string) => void,
): Promise<BundleSource> {
  const { prefix } = place.target;
  const whole = archivePattern.test(prefix);
  const folder = whole ? prefix.slice(0, -basename(prefix).length) : prefix === '' ? '' : `${prefix}/`;
  const keys = whole ? [prefix] : await listObjects(place, folder, 2 * mostBundles);
  const names = keys.map((key) => key.slice(folder.length));
  const found = sorted(names, `s3://${place.target.bucket}/${prefix}`);
  sweep();
  const directory = mkdtempSync(join(tmpdir(), `${fetched}${process.pid}-`));
  onTemporary?.(directory);
  return {
    ...found,
    open: async (name) => {
      const archive = join(directory, basename(name));
      const sigstore = sigstoreName(archive);
      const remove = (): void => {
        for (const file of [archive, sigstore]) rmSync(file, { force: true });
      };
      try {
        await fetchObject(place, folder + name, archive, archiveBytes + 1);
        if (!existsSync(archive)) throw nothingThere(`s3://${place.target.bucket}/${folder}${name}`, []);
        await fetchObject(place, sigstoreName(folder + name), sigstore, largestStatement + 1);
      } catch (error) {
        remove();
        throw error;
      }
      return { archive, sigstore, [Symbol.dispose]: remove };
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/**
 * The two files of the one bundle that an `s3://` URL names; a prefix may do, where there is no other under it.
 * @throws Failure as `bucketSource`; `upload-url-invalid`; `usage` where there are several.
 */
export async function oneFromBucket(
  url: string,
  archiveBytes: number,
  onTemporary?: (directory: string) => void,
): Promise<OpenBundle> {
  const target = parseUploadUrl(url);
  if (target.kind !== 's3') throw new Error('s3:// has its own kind');
  const { signal } = new AbortController();
  const source = await bucketSource({ target, signal }, archiveBytes, onTemporary);
  try {
    const [only = '', ...others] = source.archives;
    if (others.length > 0) {
      throw new Failure('usage', `There are ${others.length + 1} bundles at ${url}.`, {
        remedy: `Name one of them, as ${only}; \`verify\` takes them all.`,
        status: exitStatus.usage,
      });
    }
    const bundle = await source.open(only);
    return { ...bundle, [Symbol.dispose]: () => source[Symbol.dispose]() };
  } catch (error) {
    source[Symbol.dispose]();
    throw error;
  }
}

/** Removes what verifiers of this user left behind that were killed. */
function sweep(): void {
  for (const name of readdirSync(tmpdir()).filter((each) => each.startsWith(fetched))) {
    const path = join(tmpdir(), name);
    const pid = Number(/^(\d+)-/.exec(name.slice(fetched.length))?.[1]);
    try {
      // Root takes nobody else's away: in a directory of theirs they could lead it elsewhere.
      if (lstatSync(path).uid === process.geteuid?.() && !isAlive(pid)) rmSync(path, { recursive: true });
    } catch {
      // Another verifier was faster, or it is in nobody's way.
    }
  }
}

/** Also where it cannot be told. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function sorted(
  names: readonly string[],
  where: string,
  others: readonly NotRead[] = [],
): Pick<BundleSource, 'archives' | 'strays' | 'notRead'> {
  const archives = names.filter((name) => archivePattern.test(name)).toSorted();
  if (archives.length === 0) throw nothingThere(where, others);
  if (archives.length > mostBundles) {
    throw new Failure('bundles-too-many', `There are over ${mostBundles} bundles at ${where}.`, {
      remedy: 'Verify them by node or by year.',
      status: exitStatus.usage,
    });
  }
  const known = new Set(archives.map(sigstoreName));
  const strays = names.filter((name) => /\.tar\.gz(\.age)?\.sigstore\.json$/.test(name) && !known.has(name));
  // A statement beside its archive is read, whatever it is: by its name, as that of a single archive.
  const notRead = others.filter(({ name }) => !known.has(name));
  return {
    archives,
    strays: strays.toSorted(),
    notRead: notRead.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
  };
}

const nothingThere = (where: string, notRead: readonly NotRead[]): Failure => {
  const links = notRead.filter(({ bundle }) => bundle).map(({ name, what }) => `${name} is a ${what}`);
  return new Failure(
    'bundles-missing',
    `There is no bundle at ${where}${links.length === 0 ? '' : `; what is named so is not read: ${links.join(', ')}`}.`,
    {
      remedy:
        links.length === 0
          ? 'Check the path: a bundle is NODE-SEQ-UTC.tar.gz with its .sigstore.json beside it.'
          : 'Verify where they lead, or copies of the files.',
      status: exitStatus.usage,
    },
  );
};
