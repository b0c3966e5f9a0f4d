// The secret arena: the one place where sensitive security parameters live at rest (docs/architecture.md, "Memory").
// One private anonymous mapping, locked, kept out of core dumps, wiped in forked children. Every thread views the same
// address, so one fill destroys everything in every thread.
import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { Failure, zeroizedFailure } from './failure.ts';
import { errno, errnoName, madvise, mlock, mmap, munlock, munmap, viewMemory } from './libc.ts';

const PROT_READ_WRITE = 0x1 | 0x2;
const MAP_PRIVATE_ANONYMOUS = 0x02 | 0x20;
const MADV_DONTNEED = 4;
const MADV_DONTDUMP = 16;
const MADV_WIPEONFORK = 18;
const pageSize = 4096;
/** Every slice starts on a cache line, so that neighbours never share one. */
export const alignment = 64;

/** Words of the shared control block (`Int32Array`). */
const control = { zeroized: 0 } as const;

/** What another thread needs to view the arena, or one region of it; passes through `workerData`. */
export interface ArenaRegion {
  readonly address: bigint;
  readonly byteLength: number;
  readonly control: SharedArrayBuffer;
}

export interface ArenaOptions {
  readonly byteLength?: number;
  /** Go on although the memory could not be locked (it may reach swap). Recorded as a bypass by the caller. */
  readonly allowSwappable?: boolean;
}

/**
 * Allocates slices of the mapping. Not thread-safe: one thread allocates; a thread that needs secrets of its own gets a
 * region carved for it (`carve`) and allocates in that.
 */
export class SecretArena implements Disposable {
  readonly region: ArenaRegion;
  /** False only where `allowSwappable` was given and the kernel refused to lock. */
  readonly locked: boolean;
  readonly #bytes: Uint8Array;
  readonly #control: Int32Array;
  readonly #owned: boolean;
  /** Free ranges, sorted by offset, never adjacent. */
  #free: { offset: number; length: number }[];

  private constructor(region: ArenaRegion, locked: boolean, owned: boolean) {
    this.region = region;
    this.locked = locked;
    this.#bytes = viewMemory(region.address, region.byteLength);
    this.#control = new Int32Array(region.control);
    this.#owned = owned;
    this.#free = [{ offset: 0, length: region.byteLength }];
  }

  /**
   * Maps and locks a new arena (1 MiB unless told).
   * @throws Failure `memory-unlockable` when the pages cannot be locked and `allowSwappable` was not given.
   */
  static allocate(options: ArenaOptions = {}): SecretArena {
    const byteLength = Math.ceil((options.byteLength ?? 1 << 20) / pageSize) * pageSize;
    const address = BigInt(mmap(0, byteLength, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0));
    if (address === 0xffff_ffff_ffff_ffffn) {
      throw new Failure('memory-unavailable', `The secret arena could not be mapped: ${errnoName(errno())}.`);
    }
    const before = lockedKilobytes();
    const locked = mlock(address, byteLength) === 0 && lockedKilobytes() - before >= byteLength / 1024;
    if (!locked && options.allowSwappable !== true) {
      munmap(address, byteLength);
      throw new Failure(
        'memory-unlockable',
        'The memory that holds secrets cannot be locked, so it could reach swap.',
        {
          kept: 'No secret has been unsealed.',
          remedy:
            'Raise the limit (`LimitMEMLOCK=64M` in the unit, or `ulimit -l unlimited`), or accept the risk with `run --allow-swappable`.',
        },
      );
    }
    for (const advice of [MADV_DONTDUMP, MADV_WIPEONFORK]) {
      if (madvise(address, byteLength, advice) !== 0) {
        throw new Failure(
          'memory-advice',
          `madvise(${advice}) on the secret arena failed: ${errnoName(errno())}.`,
        );
      }
    }
    return new SecretArena({ address, byteLength, control: new SharedArrayBuffer(64) }, locked, true);
  }

  /** Views an arena, or a region carved from one, that another thread allocated. */
  static attach(region: ArenaRegion): SecretArena {
    return new SecretArena(region, true, false);
  }

  /** True from the instant a zeroize began, in every thread. */
  get zeroized(): boolean {
    return Atomics.load(this.#control, control.zeroized) !== 0;
  }

  /**
   * A zeroed slice; dispose it to wipe and return it. `label` says what it holds, for zeroize certificates.
   * @throws Failure `zeroized` after a zeroize; `arena-full` when no range is large enough.
   */
  take(byteLength: number, label: string): SecretBuffer {
    if (this.zeroized) throw zeroizedFailure('Secret memory');
    const length = Math.max(alignment, Math.ceil(byteLength / alignment) * alignment);
    const range = this.#free.find((candidate) => candidate.length >= length);
    if (range === undefined)
      throw new Failure('arena-full', `The secret arena has no room for ${byteLength} bytes.`);
    const { offset } = range;
    range.offset += length;
    range.length -= length;
    if (range.length === 0) this.#free.splice(this.#free.indexOf(range), 1);
    return new SecretBuffer(
      this.#bytes.subarray(offset, offset + byteLength),
      this.region.address + BigInt(offset),
      label,
      () => this.zeroized,
      () => this.#release(offset, length),
    );
  }

  /** Reserves a region for another thread: pass it on and `attach` there. It is never returned. */
  carve(byteLength: number, label: string): ArenaRegion {
    const slice = this.take(byteLength, label);
    return { address: slice.address, byteLength, control: this.region.control };
  }

  /**
   * The memory stage: raises the flag that every consumer checks, then overwrites all bytes. Allocates nothing, waits
   * for nobody, may be called from any thread and more than once. Slices stay allocated but are zero and refuse use.
   */
  wipe(): void {
    Atomics.store(this.#control, control.zeroized, 1);
    this.#bytes.fill(0);
  }

  /**
   * Looks at each page, so that a wipe finds all of them at hand: to write to one that nobody has used for seconds takes ten microseconds
   * in a virtual machine whose host takes idle memory away, and a mebibyte of them more than two milliseconds.
   */
  keepAtHand(): void {
    for (let at = 0; at < this.#bytes.length; at += pageSize) Atomics.load(this.#bytes, at);
  }

  [Symbol.dispose](): void {
    if (!this.#owned) return;
    this.wipe();
    // The pages go back, the addresses stay reserved: a late access through a view reads zeros instead of crashing.
    munlock(this.region.address, this.region.byteLength);
    madvise(this.region.address, this.region.byteLength, MADV_DONTNEED);
  }

  #release(offset: number, length: number): void {
    const at = this.#free.findIndex((range) => range.offset > offset);
    this.#free.splice(at === -1 ? this.#free.length : at, 0, { offset, length });
    this.#free = this.#free.reduce<{ offset: number; length: number }[]>((merged, range) => {
      const last = merged.at(-1);
      if (last !== undefined && last.offset + last.length === range.offset) last.length += range.length;
      else merged.push(range);
      return merged;
    }, []);
  }
}

/**
 * The only holder of a secret: a slice of the arena. It has no text form; `bytes` and `address` are for handing the
 * secret on in place (a cipher, the TPM, a kernel message). Wiped on dispose.
 */
export class SecretBuffer implements Disposable {
  /** Where the bytes are, for native code. */
  readonly address: bigint;
  readonly label: string;
  readonly byteLength: number;
  readonly #bytes: Uint8Array;
  readonly #isZeroized: () => boolean;
  #release: (() => void) | undefined;

  constructor(
    bytes: Uint8Array,
    address: bigint,
    label: string,
    isZeroized: () => boolean,
    release: () => void,
  ) {
    this.#bytes = bytes;
    this.address = address;
    this.label = label;
    this.byteLength = bytes.byteLength;
    this.#isZeroized = isZeroized;
    this.#release = release;
  }

  /** The bytes themselves, not a copy. @throws Failure `zeroized` after a zeroize; an Error after dispose. */
  get bytes(): Uint8Array {
    if (this.#release === undefined) throw new Error(`The secret "${this.label}" has been disposed of.`);
    if (this.#isZeroized()) throw zeroizedFailure(`The secret "${this.label}"`);
    return this.#bytes;
  }

  [Symbol.dispose](): void {
    if (this.#release === undefined) return;
    this.#bytes.fill(0);
    this.#release();
    this.#release = undefined;
  }

  toString(): string {
    return `[SecretBuffer ${this.label}, ${this.byteLength} bytes]`;
  }
  toJSON(): string {
    return this.toString();
  }
  [inspect.custom](): string {
    return this.toString();
  }
}

/** `VmLck` of this process in kB: mlock can report success and lock nothing, so its effect is what counts. */
function lockedKilobytes(): number {
  return Number(/^VmLck:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0);
}
