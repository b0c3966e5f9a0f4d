// Delivery of a file to a directory: copied beside, synced, linked under its name, read back. Never an overwrite.
import { createReadStream, linkSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { copyFile, open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { syncDirectory } from '../host/durable.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { counter, type Delivered, type Delivery, digest, kept, measure, requireSame } from './delivery.ts';

/** @returns what lies there now. */
export async function deliverToDirectory(
  file: string,
  directory: string,
  delivery: Delivery,
): Promise<Delivered> {
  const { signal } = delivery;
  const local = await measure(file, delivery);
  const path = join(directory, basename(file));
  const alreadyThere = await copyDurably(file, directory).catch((error: unknown) => {
    throw new Failure(
      'upload-directory',
      `${file} could not be copied to ${directory}: ${reasonOf(error)}.`,
      {
        kept,
        remedy: 'Make the directory writable for the courier and see that it has room.',
        cause: error,
      },
    );
  });
  delivery.onProgress?.({ file, phase: 'upload', bytes: local.size, total: local.size });
  const onChunk = counter(delivery, file, 'read back', local.size);
  const remote = await digest(createReadStream(path, { signal }), onChunk);
  requireSame(local, remote, path, alreadyThere);
  const { size, sha256 } = local;
  return { file, where: pathToFileURL(path).href, size, sha256 };
}

/** Copied beside, synced, then linked under its name: never an overwrite. @returns whether the name was taken. */
async function copyDurably(file: string, directory: string): Promise<boolean> {
  const beside = join(directory, `.${basename(file)}.part`);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  try {
    await copyFile(file, beside);
    await using copy = await open(beside, 'r+');
    await copy.sync();
    const taken = !publish(beside, join(directory, basename(file)));
    syncDirectory(directory);
    return taken;
  } finally {
    rmSync(beside, { force: true });
  }
}

/** False where the name is taken. File systems without hard links (USB sticks) get a rename. */
function publish(beside: string, path: string): boolean {
  try {
    linkSync(beside, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    if (code !== 'EPERM' && code !== 'EOPNOTSUPP') throw error;
    if (statSync(path, { throwIfNoEntry: false }) !== undefined) return false;
    renameSync(beside, path);
  }
  return true;
}
