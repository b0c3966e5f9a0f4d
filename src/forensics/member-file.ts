// A member of a bundle as it is collected: made at the first byte, hashed and deflated as it grows, and cut back where the disk is full.
// It lies there as a gzip file, whole at any time, whose pieces go into the archive as they are.
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { Checksum, gzipHeader } from './deflated.ts';
import type { ManifestFile } from './format.ts';

export type FileAbout = Pick<
  ManifestFile,
  'source' | 'redactions' | 'redactionRecords' | 'canaries' | 'error'
>;

/** Where a member lies in the directory in which it was collected. */
export const collectedPath = (directory: string, path: string): string => `${join(directory, path)}.gz`;

/** What was collected of a member, whole. */
export const readCollected = (directory: string, path: string): Buffer =>
  gunzipSync(readFileSync(collectedPath(directory, path)));

/** A piece of a member, in clear and deflated. */
interface Piece {
  readonly plain: Uint8Array;
  readonly deflated: Uint8Array;
}

/** Where members are collected. */
export interface Place {
  readonly path: string;
  /** A file has been made there. */
  made?(path: string): void;
  /** Removes one, also where there is none; `rmSync` unless given. */
  remove?(path: string): void;
}

export class MemberFile implements Disposable {
  readonly path: string;
  readonly #place: Place;
  readonly #file: string;
  #hash = createHash('sha256');
  #sum = new Checksum();
  #fd: number | undefined;
  /** With what `write` was given last. */
  #sumWithLast = this.#sum;
  /** Where in the file the next piece goes. */
  #end = 0;

  constructor(place: Place, path: string) {
    this.path = path;
    this.#place = place;
    this.#file = collectedPath(place.path, path);
  }

  /** Bytes that are kept, in clear. */
  get size(): number {
    return this.#sum.length;
  }

  /** Writes behind what is kept; `keep` or `undo` decides about it. */
  write({ plain, deflated }: Piece): void {
    if (plain.length === 0) return;
    const fd = this.#open();
    this.#sumWithLast = this.#sum.with(plain);
    writeAll(fd, Buffer.concat([deflated, this.#sumWithLast.gzipEnd]), this.#end);
  }

  /** What `write` was given last stays. */
  keep({ plain, deflated }: Piece): void {
    if (plain.length === 0) return;
    this.#hash.update(plain);
    this.#sum = this.#sumWithLast;
    this.#end += deflated.length;
  }

  /** What was written last, whole or in part, goes. The end of what is kept has had its place before. */
  undo(): void {
    if (this.#fd === undefined) return;
    if (this.size === 0) {
      this.#remove();
      return;
    }
    const end = this.#sum.gzipEnd;
    writeAll(this.#fd, end, this.#end);
    ftruncateSync(this.#fd, this.#end + end.length);
  }

  /** Begins anew: nothing is kept. */
  reset(): void {
    this.#remove();
    this.#hash = createHash('sha256');
    this.#sum = new Checksum();
  }

  /** Its entry for the manifest; none where nothing was kept, unless an empty file says something. */
  finish(about: FileAbout, evenEmpty: boolean): ManifestFile[] {
    if (this.size === 0 && !evenEmpty) {
      this.#remove();
      return [];
    }
    try {
      if (this.size === 0) writeAll(this.#open(), this.#sum.gzipEnd, this.#end);
    } finally {
      this.#close();
    }
    return [{ ...about, path: this.path, size: this.size, sha256: this.#hash.digest('hex') }];
  }

  #open(): number {
    if (this.#fd !== undefined) return this.#fd;
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    this.#remove();
    this.#fd = openSync(this.#file, 'wx', 0o600);
    this.#place.made?.(this.#file);
    writeAll(this.#fd, gzipHeader, 0);
    this.#end = gzipHeader.length;
    return this.#fd;
  }

  /** As it is, where its member could not be finished. */
  [Symbol.dispose](): void {
    this.#close();
  }

  #remove(): void {
    this.#close();
    if (this.#place.remove === undefined) rmSync(this.#file, { force: true });
    else this.#place.remove(this.#file);
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

function writeAll(fd: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(fd, bytes, done, bytes.length - done, at + done);
}

/** Writes to both or to none. False where the disk is full. */
export function writeBoth(parts: readonly (readonly [MemberFile, Piece])[]): boolean {
  try {
    for (const [file, piece] of parts) file.write(piece);
  } catch (error) {
    for (const [file] of parts) file.undo();
    if (!isDiskFull(error)) throw error;
    return false;
  }
  for (const [file, piece] of parts) file.keep(piece);
  return true;
}

/** Also a quota. */
export const isDiskFull = (error: unknown): boolean =>
  ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException | undefined)?.code ?? '');
