// A generator of its own for each consumer of random output (SP 800-90C: a DRBG that is seeded by another DRBG), so that no consumer
// sees a state that another one's output came from. Its state lies in the arena; it is reseeded whenever the root is.
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { CtrDrbg, seedLength } from './drbg.ts';

/** What a consumer asks of the pool that it belongs to. */
export interface Root {
  readonly arena: SecretArena;
  readonly clock: () => number;
  /** Counts the seeds of the root. Throws where nothing may be given out. */
  admit(): number;
  /** Fills 48 bytes for a seed from the root. */
  derive(seed: SecretBuffer): void;
  /** So much has been given out. */
  gave(bytes: number): void;
}

export class Consumer implements Disposable {
  readonly label: string;
  readonly #root: Root;
  readonly #drbg: CtrDrbg;
  readonly #seed: SecretBuffer;
  /** Of the root's seed that this one's came from. */
  #generation = 0;

  constructor(root: Root, label: string) {
    this.label = label;
    this.#root = root;
    this.#drbg = new CtrDrbg(root.arena, root.clock);
    this.#seed = root.arena.take(seedLength, 'DRBG seed');
  }

  /**
   * Fills `out`, of any length.
   * @throws as `EntropyPool.read`; `out` is then zero.
   */
  read(out: Uint8Array): void {
    try {
      const generation = this.#root.admit();
      if (generation !== this.#generation || !this.#drbg.fresh) this.#reseed(generation);
      this.#drbg.generate(out);
      this.#root.gave(out.byteLength);
    } catch (error) {
      out.fill(0);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#drbg[Symbol.dispose]();
    this.#seed[Symbol.dispose]();
  }

  #reseed(generation: number): void {
    this.#root.derive(this.#seed);
    try {
      if (this.#generation > 0) this.#drbg.reseed(this.#seed);
      else this.#drbg.instantiate(this.#seed, new TextEncoder().encode(this.label).subarray(0, seedLength));
      this.#generation = generation;
    } finally {
      if (!this.#root.arena.zeroized) this.#seed.bytes.fill(0);
    }
  }
}
