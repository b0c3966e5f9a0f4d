// Any TCTI that tpm2-tss has a module for (pcap, mssim, tabrmd, cmd, a swtpm on another host), through its loader.
// In the background a TPM that never answers costs a thread of the pool. Without one, as for the interlock's stage, the time limit is
// the module's to keep: mssim does; others (pcap in front of swtpm, cmd) wait without end for a TPM that hangs.
import koffi from 'koffi';
import { viewMemory } from '../host/libc.ts';
import { hasTcti, inBackground, installedTctis, loadTss, type NativeFunction } from './library.ts';
import { noSuchTcti, timedOut, tpmError } from './responses.ts';
import type { Transport } from './transport.ts';

const forever = -1;
const tryAgain = 0xa0009; // TSS2_TCTI_RC_TRY_AGAIN: no answer yet

export class LoaderTransport implements Transport {
  readonly #context: bigint;
  readonly #transmit: NativeFunction;
  readonly #receive: NativeFunction;
  readonly #size = new BigUint64Array(1);
  /** A thread waits for an answer in there. */
  #stuck = false;
  /** The answer to a command that was given up is still to come, and is read before another is sent. */
  #late = false;

  constructor(tcti: string) {
    const address = new BigUint64Array(1);
    const rc = loadTss().tctiInitialize(tcti, address);
    if (rc !== 0) {
      const [name = ''] = tcti.split(':');
      throw hasTcti(name) ? tpmError(rc, 'The connection') : noSuchTcti(name, installedTctis());
    }
    this.#context = address[0] ?? 0n;
    // TSS2_TCTI_CONTEXT_COMMON_V1: magic u64, version u32 (padded), transmit, receive, …
    const functions = new BigUint64Array(viewMemory(this.#context, 32).slice().buffer);
    this.#transmit = koffi.decode(functions[2], transmitType()) as NativeFunction;
    this.#receive = koffi.decode(functions[3], receiveType()) as NativeFunction;
  }

  exchange(command: Uint8Array, response: Uint8Array, timeoutMilliseconds: number): number {
    if (this.#stuck) throw timedOut(timeoutMilliseconds);
    const deadline = performance.now() + timeoutMilliseconds;
    if (this.#late) this.#receiveUntil(deadline, response, timeoutMilliseconds);
    check(this.#transmit(this.#context, command.byteLength, command));
    this.#late = true;
    return this.#receiveUntil(deadline, response, timeoutMilliseconds);
  }

  async exchangeInBackground(
    command: Uint8Array,
    response: Uint8Array,
    timeoutMilliseconds: number,
  ): Promise<number> {
    if (this.#stuck) throw timedOut(timeoutMilliseconds);
    const { promise: late, reject } = Promise.withResolvers<number>();
    const timer = setTimeout(() => {
      this.#stuck = true;
      reject(timedOut(timeoutMilliseconds));
    }, timeoutMilliseconds);
    try {
      return await Promise.race([late, this.#exchange(command, response)]);
    } finally {
      clearTimeout(timer);
    }
  }

  [Symbol.dispose](): void {
    // What a blocked thread still uses must stay.
    if (!this.#stuck) loadTss().tctiFinalize(BigUint64Array.of(this.#context));
  }

  #receiveUntil(deadline: number, response: Uint8Array, timeoutMilliseconds: number): number {
    this.#size[0] = BigInt(response.byteLength);
    const left = Math.max(0, Math.ceil(deadline - performance.now()));
    const rc = this.#receive(this.#context, this.#size, response, left);
    if (rc === tryAgain) throw timedOut(timeoutMilliseconds);
    this.#late = false;
    check(rc);
    return Number(this.#size[0]);
  }

  async #exchange(command: Uint8Array, response: Uint8Array): Promise<number> {
    check(await inBackground(this.#transmit, [this.#context, command.byteLength, command]));
    this.#size[0] = BigInt(response.byteLength);
    check(await inBackground(this.#receive, [this.#context, this.#size, response, forever]));
    return Number(this.#size[0]);
  }
}

function check(rc: number): void {
  if (rc !== 0) throw tpmError(rc, 'The command');
}

const transmitType = () => koffi.proto('uint32_t', ['uintptr_t', 'size_t', 'void *']);
const receiveType = () => koffi.proto('uint32_t', ['uintptr_t', 'void *', 'void *', 'int32_t']);
