// CTR_DRBG with AES-256 and no derivation function: NIST SP 800-90A rev. 1, section 10.2.1. Key and V lie in the secret
// arena; OpenSSL holds the key schedule only while a request is being answered. Prediction resistance is the pool's
// (`readFresh`): it reseeds first.
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { Failure, zeroizedFailure } from '../host/failure.ts';
import { CtrStream } from '../host/openssl.ts';

const keyLength = 32;
const blockLength = 16;
/** Bytes of a seed, of Key || V, and the most of an additional input (table 3: seedlen 384 bits). */
export const seedLength = keyLength + blockLength;
/** Bytes of the largest request (table 3: 2^19 bits); `generate` splits what is larger. */
const maxRequestLength = 65_536;

const zeros = new Uint8Array(maxRequestLength);

export interface ReseedLimits {
  /** Requests of at most 64 KiB that one seed answers. SP 800-90A allows 2^48. */
  readonly requests: number;
  /** Microseconds that one seed serves. */
  readonly micros: number;
}

/** 2^24 requests (1 TiB) or an hour, far below the standard's limit. */
export const defaultReseedLimits: ReseedLimits = { requests: 2 ** 24, micros: 3_600_000_000 };

/** A generator of 256-bit strength. Dispose it to wipe its state. */
export class CtrDrbg implements Disposable {
  readonly #arena: SecretArena;
  readonly #clock: () => number;
  readonly #limits: ReseedLimits;
  readonly #stateBuffer: SecretBuffer;
  readonly #scratchBuffer: SecretBuffer;
  /** Key || V. */
  readonly #state: Uint8Array;
  /** The tail of a stream (at most 15 + 48 bytes), then 48 bytes of padded input. */
  readonly #scratch: Uint8Array;
  readonly #input: Uint8Array;
  readonly #cipher = new CtrStream();
  #instantiated = false;
  #requests = 0;
  #seededAt = 0;
  #answered = 0;

  /** `clock` counts microseconds and never goes back. */
  constructor(arena: SecretArena, clock: () => number, limits: ReseedLimits = defaultReseedLimits) {
    this.#arena = arena;
    this.#clock = clock;
    this.#limits = limits;
    this.#stateBuffer = arena.take(seedLength, 'DRBG key and V');
    this.#scratchBuffer = arena.take(64 + seedLength, 'DRBG scratch');
    this.#state = this.#stateBuffer.bytes;
    this.#scratch = this.#scratchBuffer.bytes.subarray(0, 64);
    this.#input = this.#scratchBuffer.bytes.subarray(64);
  }

  /** Requests answered since the last seed. */
  get requests(): number {
    return this.#requests;
  }

  /** Bytes given out since construction. */
  get bytesOut(): number {
    return this.#answered;
  }

  /** Microseconds since the last seed; Infinity before the first. */
  get age(): number {
    return this.#instantiated ? this.#clock() - this.#seededAt : Number.POSITIVE_INFINITY;
  }

  /** True while `generate` would answer. */
  get fresh(): boolean {
    return this.#instantiated && this.#requests < this.#limits.requests && this.age < this.#limits.micros;
  }

  /** Section 10.2.1.3.1. `entropyInput`: 48 bytes of full entropy; `personalization`: at most 48 bytes. */
  instantiate(entropyInput: SecretBuffer, personalization?: Uint8Array): void {
    this.#state.fill(0);
    this.#seed(entropyInput, personalization);
    this.#instantiated = true;
  }

  /** Section 10.2.1.4.1. `entropyInput`: 48 bytes of full entropy; `additionalInput`: at most 48 bytes. */
  reseed(entropyInput: SecretBuffer, additionalInput?: Uint8Array): void {
    if (!this.#instantiated) throw notSeeded();
    this.#seed(entropyInput, additionalInput);
  }

  /**
   * Section 10.2.1.5.1, for any length: fills `out`, at most 64 KiB a request, `additionalInput` (at most 48 bytes) in
   * the first.
   * @throws Failure `drbg-not-seeded`, `drbg-exhausted` (a reseed limit is reached), or `zeroized`; after a failure
   * `out` is zero wherever it had been written.
   */
  generate(out: Uint8Array, additionalInput?: Uint8Array): void {
    for (let done = 0; done < out.byteLength || done === 0; done += maxRequestLength) {
      const part = out.byteLength <= maxRequestLength ? out : out.subarray(done, done + maxRequestLength);
      try {
        this.#request(part, done === 0 ? additionalInput : undefined);
      } catch (error) {
        out.fill(0);
        throw error;
      }
    }
  }

  [Symbol.dispose](): void {
    this.#instantiated = false;
    this.#cipher[Symbol.dispose]();
    this.#stateBuffer[Symbol.dispose]();
    this.#scratchBuffer[Symbol.dispose]();
  }

  #request(out: Uint8Array, additionalInput: Uint8Array | undefined): void {
    this.#refuseUnlessFresh();
    const withInput = additionalInput !== undefined && additionalInput.byteLength > 0;
    if (withInput) {
      this.#pad(additionalInput);
      this.#update();
    }
    increment(this.#state);
    const skipped = -out.byteLength & (blockLength - 1);
    this.#cipher.begin(this.#stateBuffer.address, this.#stateBuffer.address + 32n);
    this.#cipher.apply(zeros, out, out.byteLength);
    this.#cipher.apply(zeros, this.#scratchBuffer.address, skipped + seedLength);
    this.#cipher.reset();
    for (let i = 0; i < seedLength; i++) {
      this.#state[i] = (this.#scratch[skipped + i] ?? 0) ^ (withInput ? (this.#input[i] ?? 0) : 0);
    }
    this.#scratch.fill(0);
    if (withInput) this.#input.fill(0);
    this.#requests += 1;
    this.#answered += out.byteLength;
    this.#refuseIfZeroized();
  }

  #seed(entropyInput: SecretBuffer, extra: Uint8Array | undefined): void {
    if (entropyInput.byteLength !== seedLength) throw new RangeError('the entropy input has 48 bytes');
    this.#pad(extra ?? zeros.subarray(0, 0));
    const entropy = entropyInput.bytes;
    for (let i = 0; i < seedLength; i++) this.#input[i] = (this.#input[i] ?? 0) ^ (entropy[i] ?? 0);
    this.#update();
    this.#input.fill(0);
    this.#requests = 0;
    this.#seededAt = this.#clock();
    this.#refuseIfZeroized();
  }

  /** CTR_DRBG_Update, section 10.2.1.2: the next 48 bytes of the stream XOR the padded input become Key || V. */
  #update(): void {
    increment(this.#state);
    this.#cipher.begin(this.#stateBuffer.address, this.#stateBuffer.address + 32n);
    this.#cipher.apply(this.#input, this.#stateBuffer.address, seedLength);
    this.#cipher.reset();
  }

  #pad(input: Uint8Array): void {
    if (input.byteLength > seedLength) throw new RangeError('an additional input has at most 48 bytes');
    this.#input.fill(0);
    this.#input.set(input);
  }

  #refuseUnlessFresh(): void {
    if (!this.#instantiated) throw notSeeded();
    if (this.fresh) return;
    throw new Failure('drbg-exhausted', 'The random generator has reached its reseed limit.', {
      kept: 'No output was given out beyond the limit.',
      remedy: 'Look at the noise sources with `esoteric-appliance status`.',
    });
  }

  /** What this thread computed after another thread's wipe goes too. */
  #refuseIfZeroized(): void {
    if (!this.#arena.zeroized) return;
    this.#instantiated = false;
    this.#state.fill(0);
    this.#scratch.fill(0);
    this.#input.fill(0);
    throw zeroizedFailure('Random output');
  }
}

function notSeeded(): Failure {
  return new Failure('drbg-not-seeded', 'The random generator has not been seeded.');
}

/** Adds 1 to V, a 128-bit big-endian counter. */
function increment(state: Uint8Array): void {
  for (let i = seedLength - 1; i >= keyLength; i--) {
    const next = ((state[i] ?? 0) + 1) & 0xff;
    state[i] = next;
    if (next !== 0) return;
  }
}
