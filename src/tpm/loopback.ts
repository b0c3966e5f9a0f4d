// The TCTI that ESYS is given: it hands commands to this program and answers back, and does no input or output, so that
// ESYS calls are mere computation (TSS 2.0 TCTI, section 3.2: TSS2_TCTI_CONTEXT_COMMON_V1).
import koffi from 'koffi';
import type { NativeMemory } from './library.ts';

const magic = 0x6561_7070_6c69_616en;
const contextSize = 72; // magic, version, and seven functions
const tryAgain = 0xa0009; // TSS2_TCTI_RC_TRY_AGAIN
const notImplemented = 0xa0002;
const done = 0;

export class Loopback implements Disposable {
  /** Of the TSS2_TCTI_CONTEXT. */
  readonly address: bigint;
  readonly #memory: NativeMemory;
  readonly #callbacks: bigint[];
  /** Where ESYS keeps a local variable while it receives: tells which stack it runs on. */
  stackAddress = 0n;
  #command: Uint8Array | undefined;
  #answer: Uint8Array | undefined;

  constructor(memory: NativeMemory) {
    this.#memory = memory;
    const transmit = koffi.register(
      (_context: unknown, size: bigint | number, bytes: bigint | number) =>
        this.#transmit(Number(size), BigInt(bytes)),
      koffi.pointer(koffi.proto('uint32_t', ['uintptr_t', 'size_t', 'uintptr_t'])),
    );
    const receive = koffi.register(
      (_context: unknown, size: bigint | number, bytes: bigint | number) =>
        this.#receive(BigInt(size), BigInt(bytes)),
      koffi.pointer(koffi.proto('uint32_t', ['uintptr_t', 'uintptr_t', 'uintptr_t', 'int32_t'])),
    );
    const locality = koffi.register(
      () => notImplemented,
      koffi.pointer(koffi.proto('uint32_t', ['uintptr_t', 'uint8_t'])),
    );
    this.#callbacks = [transmit, receive, locality];
    const table = BigUint64Array.of(magic, 1n, transmit, receive, 0n, 0n, 0n, locality, 0n);
    this.address = memory.allocate(contextSize);
    memory.store(this.address, new Uint8Array(table.buffer), contextSize);
  }

  /** The command that ESYS has sent since the last call, if any. */
  takeCommand(): Uint8Array | undefined {
    const command = this.#command;
    this.#command = undefined;
    return command;
  }

  /** What ESYS receives next. */
  answer(bytes: Uint8Array): void {
    this.#answer = bytes;
  }

  [Symbol.dispose](): void {
    for (const callback of this.#callbacks) koffi.unregister(callback);
    this.#memory.free(this.address);
  }

  #transmit(size: number, bytes: bigint): number {
    this.#command = this.#memory.read(bytes, size);
    return done;
  }

  /** With no place for the answer, ESYS asks for its size. */
  #receive(size: bigint, bytes: bigint): number {
    this.stackAddress = size;
    const answer = this.#answer;
    if (answer === undefined) return tryAgain;
    this.#memory.store(size, new Uint8Array(BigUint64Array.of(BigInt(answer.byteLength)).buffer), 8);
    if (bytes === 0n) return done;
    this.#memory.store(bytes, answer, answer.byteLength);
    this.#answer = undefined;
    return done;
  }
}
