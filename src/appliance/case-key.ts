// The key of a case: read from a file straight into memory of its own, or drawn there.
import { randomFillSync } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { caseKeyBytes } from '../forensics/pseudonym.ts';
import { SecretArena, type SecretBuffer } from '../host/arena.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';

/** Wiped with what it is used in. */
export class CaseKey implements Disposable {
  readonly #arena: SecretArena;
  readonly #secret: SecretBuffer;

  /**
   * `path`: a file of 32 bytes; null for a random key.
   * @throws Failure `case-key-unreadable` or `case-key-invalid`, both with status 2; `memory-unlockable`, unless that is allowed.
   */
  constructor(path: string | null, options: { readonly allowSwappable?: boolean } = {}) {
    this.#arena = SecretArena.allocate({ byteLength: caseKeyBytes, ...options });
    this.#secret = this.#arena.take(caseKeyBytes, 'case key');
    try {
      if (path === null) randomFillSync(this.#secret.bytes);
      else readInto(path, this.#secret.bytes);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** For one bundle, and then known to nobody. */
  static fresh(): CaseKey {
    return new CaseKey(null, { allowSwappable: true });
  }

  get bytes(): Uint8Array {
    return this.#secret.bytes;
  }

  [Symbol.dispose](): void {
    this.#secret[Symbol.dispose]();
    this.#arena[Symbol.dispose]();
  }
}

function readInto(path: string, bytes: Uint8Array): void {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    throw new Failure('case-key-unreadable', `The case key ${path} cannot be read: ${reasonOf(cause)}.`, {
      remedy: 'Check the path.',
      status: exitStatus.usage,
    });
  }
  try {
    const { size } = fstatSync(fd);
    if (size === bytes.length && readSync(fd, bytes) === size) return;
    throw new Failure(
      'case-key-invalid',
      `The case key ${path} has ${size} bytes, expected ${bytes.length}.`,
      {
        remedy: 'Give the file that forensics.case_key named when the bundle was made.',
        status: exitStatus.usage,
      },
    );
  } finally {
    closeSync(fd);
  }
}
