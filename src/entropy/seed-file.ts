// The seed file: what the last run leaves to the next, so that a machine whose noise is worse than assessed does not start from it
// alone. It is replaced before anything of it is used, and never counted: a clone or a restored snapshot has the same file, and root can
// read it. With a sealed key of purpose `seed` it is encrypted and authenticated under that key (encrypt-then-MAC of HMAC-SHA-512 as a
// one-time stream and HMAC-SHA-256), so that a copy of the disk tells nothing.
import { randomFillSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { writeDurably } from '../host/durable.ts';
import { digestInto, hmacInto } from '../host/openssl.ts';

const magic = Buffer.from('EASEED01');
const nonceLength = 32;
const seedBytes = 64;
const tagLength = 32;
const fileLength = magic.length + nonceLength + seedBytes + tagLength;

export interface SeedFileOptions {
  readonly path: string;
  readonly arena: SecretArena;
  /** Unsealed; without one the file is plain, readable for its owner only. */
  readonly key?: SecretBuffer;
}

/** `fresh`: none was there. `taken`: one was. `refused`: it was not ours (another key, damaged) and is replaced all the same. */
export type SeedFileState = 'fresh' | 'taken' | 'refused';

export class SeedFile implements Disposable {
  readonly state: SeedFileState;
  readonly #seed: SecretBuffer;

  private constructor(state: SeedFileState, seed: SecretBuffer) {
    this.state = state;
    this.#seed = seed;
  }

  /** Reads the file and puts its successor in its place, on the medium, before it returns. @throws what the file system throws. */
  static take(options: SeedFileOptions): SeedFile {
    const { arena, path } = options;
    const seed = arena.take(seedBytes, 'seed file');
    using work = arena.take(2 * seedBytes + fileLength, 'seed file successor');
    const state = load(options, seed.bytes, work.bytes);
    // The successor: digest of the old seed and of the OS generator, so that no two readers of one file leave the same.
    const next = work.bytes.subarray(0, 2 * seedBytes);
    next.set(seed.bytes);
    randomFillSync(next, seedBytes);
    const successor = work.bytes.subarray(0, seedBytes);
    digestInto('sha512', next, successor);
    const file = work.bytes.subarray(2 * seedBytes);
    seal(options, successor, file);
    writeDurably(path, file);
    return new SeedFile(state, seed);
  }

  /** Leaves the next start a seed from `read`, the output of the pool. */
  static leave(options: SeedFileOptions, read: (out: Uint8Array) => void): void {
    using work = options.arena.take(seedBytes + fileLength, 'seed file successor');
    const successor = work.bytes.subarray(0, seedBytes);
    read(successor);
    const file = work.bytes.subarray(seedBytes);
    seal(options, successor, file);
    writeDurably(options.path, file);
  }

  /** XORs 48 bytes of its seed's digest into `into`. Once: after that it holds nothing. */
  mixInto(into: Uint8Array): void {
    const seed = this.#seed.bytes;
    digestInto('sha512', seed, seed);
    for (let i = 0; i < Math.min(into.length, 48); i++) into[i] = (into[i] as number) ^ (seed[i] as number);
    seed.fill(0);
  }

  [Symbol.dispose](): void {
    this.#seed[Symbol.dispose]();
  }
}

function load({ path, key, arena }: SeedFileOptions, into: Uint8Array, work: Uint8Array): SeedFileState {
  const file = work.subarray(0, fileLength);
  try {
    const read = readFileSync(path);
    file.set(read.subarray(0, fileLength));
    const whole = read.length === fileLength && magic.equals(read.subarray(0, magic.length));
    read.fill(0);
    if (!whole) return 'refused';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'fresh';
    return 'refused';
  }
  const sealed = file.subarray(magic.length + nonceLength, magic.length + nonceLength + seedBytes);
  if (key !== undefined && !authentic(arena, key, file)) return 'refused';
  into.set(sealed);
  if (key !== undefined)
    applyStream(arena, key, file.subarray(magic.length, magic.length + nonceLength), into);
  return 'taken';
}

function seal({ key, arena }: SeedFileOptions, seed: Uint8Array, file: Uint8Array): void {
  const nonce = file.subarray(magic.length, magic.length + nonceLength);
  const sealed = file.subarray(magic.length + nonceLength, magic.length + nonceLength + seedBytes);
  file.set(magic);
  randomFillSync(nonce);
  sealed.set(seed);
  if (key !== undefined) applyStream(arena, key, nonce, sealed);
  tag(arena, key, file, file.subarray(fileLength - tagLength));
}

/** XORs HMAC-SHA-512 of the label and the nonce: 64 bytes, used once a nonce. */
function applyStream(arena: SecretArena, key: SecretBuffer, nonce: Uint8Array, data: Uint8Array): void {
  using stream = arena.take(64, 'seed file stream');
  hmacInto('sha512', key, Buffer.concat([Buffer.from('stream'), nonce]), stream.bytes);
  for (let i = 0; i < seedBytes; i++) data[i] = (data[i] as number) ^ (stream.bytes[i] as number);
}

function tag(arena: SecretArena, key: SecretBuffer | undefined, file: Uint8Array, into: Uint8Array): void {
  using zero = arena.take(tagLength, 'no key');
  hmacInto('sha256', key ?? zero, file.subarray(0, fileLength - tagLength), into);
}

function authentic(arena: SecretArena, key: SecretBuffer, file: Uint8Array): boolean {
  using expected = arena.take(tagLength, 'seed file tag');
  tag(arena, key, file, expected.bytes);
  let difference = 0;
  for (let i = 0; i < tagLength; i++)
    difference |= (expected.bytes[i] as number) ^ (file[fileLength - tagLength + i] as number);
  return difference === 0;
}
