// Whether what runs is what a package (`npm pack`, .tgz) holds: its manifest and every module of the program, byte for byte, and no
// module beside them. Policies and other data may have been changed since, and are told.
import { createHash, hash } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Parser } from 'tar/parse';
import type { ReadEntry } from 'tar/read-entry';

export interface Comparison {
  /** Why it is not what runs; null where it is. */
  readonly problem: string | null;
  /** Other files of the package that are not here as they are in it; of many, the first. */
  readonly changed: readonly string[];
}

const mostTold = 20;
/** Source text packs to a fifth or so, and small files, with their padding, to a twentieth. */
const mostRatio = 50;
/** Bytes: what one of them unpacks to is in memory at once. */
const slice = 64 << 10;

/** `code`: the directory of the modules below `root`, `dist` or `src`. */
export async function compareWithPackage(
  tarball: Uint8Array,
  root: string,
  code: string,
): Promise<Comparison> {
  const packed = await digestsIn(tarball);
  const isCode = (path: string): boolean => path === 'package.json' || path.startsWith(`${code}/`);
  const changed: string[] = [];
  for (const [path, digest] of packed) {
    const same = (await digestOf(join(root, path))) === digest;
    if (!same && isCode(path)) return { problem: `${path} is not as in the package`, changed: [] };
    if (!same) changed.push(path);
  }
  const modules = await filesBelow(root, code);
  const other = modules.find((path) => !packed.has(path));
  if (other !== undefined) return { problem: `${other} is not in the package`, changed: [] };
  if (modules.length === 0 || !packed.has('package.json'))
    return { problem: `the package holds no ${code}/`, changed: [] };
  return { problem: null, changed: changed.sort().slice(0, mostTold) };
}

/** By path below the package. @throws Error for what npm packs not: links, paths that lead elsewhere, what is no archive. */
async function digestsIn(tarball: Uint8Array): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  let problem: string | undefined;
  const take = (entry: ReadEntry): void => {
    const [, path] = /^package\/((?!\.\.?(?:\/|$)|.*\/\.\.?(?:\/|$)).+)$/.exec(entry.path) ?? [];
    if (entry.type === 'Directory') entry.resume();
    else if (path === undefined || !/^(Old)?File$/.test(entry.type) || digests.has(path)) {
      problem ??= `${JSON.stringify(entry.path.slice(0, 100))} is nothing that npm packs`;
      entry.resume();
    } else {
      digests.set(path, '');
      const digest = createHash('sha256');
      entry.on('data', (chunk: Uint8Array) => digest.update(chunk));
      entry.on('end', () => digests.set(path, digest.digest('hex')));
    }
  };
  const parser = new Parser({ strict: true, onReadEntry: take, maxDecompressionRatio: mostRatio });
  // `once` hears the first error alone, and there is one for each header that is bad.
  let broken = false;
  parser.on('error', () => {
    broken = true;
  });
  const ended = once(parser, 'end');
  for (let at = 0; at < tarball.length && !broken; at += slice) {
    parser.write(Buffer.from(tarball.subarray(at, at + slice)));
  }
  if (!broken) parser.end();
  await ended;
  if (problem !== undefined) throw new Error(problem);
  return digests;
}

/** Undefined where there is none. */
async function digestOf(path: string): Promise<string | undefined> {
  try {
    return hash('sha256', await readFile(path));
  } catch {
    return undefined;
  }
}

/** Links count as files, so that one that leads elsewhere is none of the package's. */
async function filesBelow(root: string, directory: string): Promise<string[]> {
  const entries = await readdir(join(root, directory), { recursive: true, withFileTypes: true }).catch(
    () => [],
  );
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length))
    .sort();
}
