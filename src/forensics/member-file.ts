// A member of a bundle as it is written: made at the first byte, hashed as it grows, and cut back where the disk is full.
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ManifestFile } from './format.ts';

export type FileAbout = Pick<
  ManifestFile,
  'source' | 'redactions' | 'redactionRecords' | 'canaries' | 'error'
>;

export class MemberFile {
  readonly path: string;
  readonly #file: string;
  readonly #hash = createHash('sha256');
  #fd: number | undefined;
  /** Bytes that are kept. */
  size = 0;

  constructor(directory: string, path: string) {
    this.path = path;
    this.#file = join(directory, path);
  }

  /** Writes behind what is kept; `keep` or `undo` decides about it. */
  write(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const fd = this.#open();
    for (let done = 0; done < bytes.length; )
      done += writeSync(fd, bytes, done, bytes.length - done, this.size + done);
  }

  /** What `write` was given last stays. */
  keep(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.size += bytes.length;
  }

  /** What was written last, whole or in part, goes. */
  undo(): void {
    if (this.#fd !== undefined) ftruncateSync(this.#fd, this.size);
  }

  /** Its entry for the manifest; none where nothing was kept, unless an empty file says something. */
  finish(about: FileAbout, evenEmpty: boolean): ManifestFile[] {
    if (this.size === 0 && !evenEmpty) {
      this.#close();
      rmSync(this.#file, { force: true });
      return [];
    }
    this.#open();
    this.#close();
    return [{ ...about, path: this.path, size: this.size, sha256: this.#hash.digest('hex') }];
  }

  #open(): number {
    if (this.#fd !== undefined) return this.#fd;
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    rmSync(this.#file, { force: true });
    this.#fd = openSync(this.#file, 'wx', 0o600);
    return this.#fd;
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** Writes to both or to none. False where the disk is full. */
export function writeBoth(parts: readonly (readonly [MemberFile, Uint8Array])[]): boolean {
  try {
    for (const [file, bytes] of parts) file.write(bytes);
  } catch (error) {
    for (const [file] of parts) file.undo();
    if (!isDiskFull(error)) throw error;
    return false;
  }
  for (const [file, bytes] of parts) file.keep(bytes);
  return true;
}

/** Also a quota. */
export const isDiskFull = (error: unknown): boolean =>
  ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException | undefined)?.code ?? '');
