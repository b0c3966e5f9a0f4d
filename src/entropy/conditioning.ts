// Raw samples to seeds. Two independent streams, of the credited sources and of the others, each conditioned by SHA-512 (vetted, NIST
// SP 800-90B section 3.1.5.1.1) over one SHA-512 digest a source, are combined by XOR and truncated to 384 bits. The credited stream
// alone rests on at least 448 credited bits, so the output has full entropy whatever the other is (SP 800-90C section 3.2.2.2:
// output + 64). A digest a source has more than enough room for what its ring can hold, so it loses nothing that is counted.
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { digestInto, digestLength } from '../host/openssl.ts';
import { seedLength } from './drbg.ts';
import { ringCapacity, type SampleRings } from './rings.ts';

/** Credited bits that one seed consumes at least. */
export const bitsPerSeed = seedLength * 8 + 64;

/** No source counts for more in one seed: its digest holds 512 bits, of which 64 are left as the margin of its own conditioning. */
const mostOfOneSource = digestLength.sha512 * 8 - 64;

/** Gathers samples of all sources and conditions them. Dispose it to wipe its buffers. */
export class Conditioner implements Disposable {
  readonly #rings: SampleRings;
  readonly #sources: number;
  readonly #credit: (source: number) => number;
  readonly #seed: SecretBuffer;
  readonly #buffers: readonly SecretBuffer[];
  // Views for wiping, which must work after a zeroize too.
  readonly #samples: Uint8Array;
  readonly #digests: Uint8Array;
  readonly #streams: readonly [Uint8Array, Uint8Array];
  readonly #seedBytes: Uint8Array;

  /** `credit`: bits per sample of each of so many rings, as they are now. */
  constructor(arena: SecretArena, rings: SampleRings, sources: number, credit: (source: number) => number) {
    this.#rings = rings;
    this.#sources = sources;
    this.#credit = credit;
    const samples = arena.take(ringCapacity, 'gathered noise samples');
    const digests = arena.take(Math.max(1, sources) * digestLength.sha512, 'digests of noise');
    const streams = arena.take(2 * digestLength.sha512, 'conditioned noise');
    this.#seed = arena.take(seedLength, 'DRBG seed');
    this.#buffers = [samples, digests, streams, this.#seed];
    this.#samples = samples.bytes;
    this.#digests = digests.bytes;
    this.#streams = [
      streams.bytes.subarray(0, digestLength.sha512),
      streams.bytes.subarray(digestLength.sha512),
    ];
    this.#seedBytes = this.#seed.bytes;
  }

  /** Credited bits that lie in the rings of healthy sources now. */
  get credited(): number {
    let sum = 0;
    for (let source = 0; source < this.#sources; source++) {
      if (this.#rings.state(source) === 'healthy') sum += this.#bits(source, this.#rings.available(source));
    }
    return sum;
  }

  /**
   * Consumes the samples of all healthy sources, credited or not, and hands a seed of 48 bytes to `use`, wiping it
   * afterwards. Returns the credited bits it rests on, or 0 without having taken anything when they do not suffice.
   */
  seed(use: (seed: SecretBuffer) => void): number {
    if (this.credited < bitsPerSeed) return 0;
    try {
      const [creditedStream, otherStream] = this.#streams;
      const credited = this.#condition(creditedStream, (credit) => credit > 0);
      this.#condition(otherStream, (credit) => credit === 0);
      // An alarm between the count and the taking can have made it less.
      if (credited < bitsPerSeed) return 0;
      for (let i = 0; i < seedLength; i++)
        this.#seedBytes[i] = (creditedStream[i] as number) ^ (otherStream[i] as number);
      use(this.#seed);
      return credited;
    } finally {
      for (const view of [this.#samples, this.#digests, ...this.#streams, this.#seedBytes]) view.fill(0);
    }
  }

  /** One stream, from the sources of which `belongs` holds; returns the credited bits in it. */
  #condition(stream: Uint8Array, belongs: (credit: number) => boolean): number {
    let credited = 0;
    let length = 0;
    for (let source = 0; source < this.#sources; source++) {
      if (this.#rings.state(source) !== 'healthy' || !belongs(this.#credit(source))) continue;
      const taken = this.#rings.drain(source, this.#samples);
      if (taken === 0) continue;
      digestInto('sha512', this.#samples.subarray(0, taken), this.#digests.subarray(length));
      length += digestLength.sha512;
      credited += this.#bits(source, taken);
    }
    digestInto('sha512', this.#digests.subarray(0, length), stream);
    return credited;
  }

  #bits(source: number, samples: number): number {
    return Math.min(mostOfOneSource, this.#credit(source) * samples);
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) buffer[Symbol.dispose]();
  }
}
