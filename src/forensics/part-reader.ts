// Reads a file part by part: several may ask, each gets the next part. What is read is hashed as it passes.
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { sourceFailure } from './delivery.ts';

export interface Part {
  /** From 1 on. */
  readonly number: number;
  readonly bytes: Buffer;
}

export class PartReader implements AsyncDisposable {
  readonly partBytes: number;
  readonly #file: string;
  readonly #source: FileHandle;
  readonly #size: number;
  readonly #hash = createHash('sha256');
  #crc32 = 0;
  #read = 0;
  #turn: Promise<unknown> = Promise.resolve();

  /** Of the first `size` bytes. @throws Failure `upload-source-missing`. */
  static async of(file: string, size: number, partBytes: number): Promise<PartReader> {
    const source = await open(file).catch((error: unknown) => {
      throw sourceFailure(file, error);
    });
    return new PartReader(file, source, size, partBytes);
  }

  private constructor(file: string, source: FileHandle, size: number, partBytes: number) {
    this.#file = file;
    this.#source = source;
    this.#size = size;
    this.partBytes = Math.min(partBytes, size);
  }

  /** The next part, in `into`, which has room for one; undefined after the last. @throws Failure `upload-source-missing`. */
  next(into: Buffer): Promise<Part | undefined> {
    const part = this.#turn.then(() => this.#take(into));
    this.#turn = part.catch(() => {});
    return part;
  }

  /** Of the parts that were taken; once. */
  measured(): { readonly sha256: string; readonly crc32: number } {
    return { sha256: this.#hash.digest('hex'), crc32: this.#crc32 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source.close();
  }

  async #take(into: Buffer): Promise<Part | undefined> {
    const from = this.#read;
    const bytes = into.subarray(0, Math.min(this.partBytes, this.#size - from));
    if (bytes.length === 0) return undefined;
    await this.#fill(bytes, from);
    this.#read += bytes.length;
    this.#hash.update(bytes);
    this.#crc32 = crc32(bytes, this.#crc32);
    return { number: Math.ceil(this.#read / this.partBytes), bytes };
  }

  async #fill(bytes: Buffer, from: number): Promise<void> {
    try {
      for (let at = 0; at < bytes.length; ) {
        const { bytesRead } = await this.#source.read(bytes, at, bytes.length - at, from + at);
        if (bytesRead === 0) throw new Error('it has become shorter');
        at += bytesRead;
      }
    } catch (error) {
      throw sourceFailure(this.#file, error);
    }
  }
}
