// Raw samples to seeds. The conditioning component is SHA-512, vetted by NIST SP 800-90B section 3.1.5.1.1, one-shot and
// truncated to 384 bits; 448 credited bits in make the output full entropy (SP 800-90C section 3.2.2.2: output + 64).
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { digestInto, digestLength } from '../host/openssl.ts';
import { seedLength } from './drbg.ts';
import { ringCapacity, type SampleRings } from './rings.ts';

/** Credited bits that one seed consumes at least. */
export const bitsPerSeed = seedLength * 8 + 64;

/** Gathers samples of all sources and conditions them. Dispose it to wipe its buffers. */
export class Conditioner implements Disposable {
  readonly #rings: SampleRings;
  readonly #credits: readonly number[];
  readonly #seed: SecretBuffer;
  readonly #buffers: readonly SecretBuffer[];
  // Views for wiping, which must work after a zeroize too.
  readonly #samples: Uint8Array;
  readonly #digest: Uint8Array;
  readonly #seedBytes: Uint8Array;

  /** `credits`: bits per sample of each ring. */
  constructor(arena: SecretArena, rings: SampleRings, credits: readonly number[]) {
    this.#rings = rings;
    this.#credits = credits;
    const samples = arena.take(credits.length * ringCapacity, 'gathered noise samples');
    const digest = arena.take(digestLength.sha512, 'conditioned noise');
    this.#seed = arena.take(seedLength, 'DRBG seed');
    this.#buffers = [samples, digest, this.#seed];
    this.#samples = samples.bytes;
    this.#digest = digest.bytes;
    this.#seedBytes = this.#seed.bytes;
  }

  /** Credited bits that lie in the rings of healthy sources now. */
  get credited(): number {
    return this.#credits.reduce(
      (sum, credit, source) =>
        this.#rings.state(source) === 'healthy' ? sum + credit * this.#rings.available(source) : sum,
      0,
    );
  }

  /**
   * Consumes the samples of all healthy sources, credited or not, and hands a seed of 48 bytes to `use`, wiping it
   * afterwards. Returns the credited bits it rests on, or 0 without having taken anything when they do not suffice.
   */
  seed(use: (seed: SecretBuffer) => void): number {
    if (this.credited < bitsPerSeed) return 0;
    let length = 0;
    let credited = 0;
    for (const [source, credit] of this.#credits.entries()) {
      if (this.#rings.state(source) !== 'healthy') continue;
      const taken = this.#rings.drain(source, this.#samples.subarray(length, length + ringCapacity));
      length += taken;
      credited += taken * credit;
    }
    try {
      // An alarm between the count and the taking can have made it less.
      if (credited < bitsPerSeed) return 0;
      digestInto('sha512', this.#samples.subarray(0, length), this.#digest);
      this.#seedBytes.set(this.#digest.subarray(0, seedLength));
      use(this.#seed);
      return credited;
    } finally {
      this.#samples.fill(0, 0, length);
      this.#digest.fill(0);
      this.#seedBytes.fill(0);
    }
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) buffer[Symbol.dispose]();
  }
}
