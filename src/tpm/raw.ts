// Commands marshalled beforehand, and a way to the TPM for the interlock's thread that passes ESYS and the main thread
// by (TPM 2.0 Library, Part 3, section 4: the form of a command).
import { algorithm } from './registry.ts';
import { isRetry } from './responses.ts';
import { openTransport, type Transport } from './transport.ts';
import { Writer } from './wire.ts';

/** What another thread needs to reach the same TPM; passes through `workerData`. */
export interface RawChannel {
  readonly tcti: string;
}

const tagSessions = 0x8002;
const tagNoSessions = 0x8001;
const commandCode = {
  nvUndefineSpace: 0x122,
  nvIncrement: 0x134,
  flushContext: 0x165,
  pcrExtend: 0x182,
} as const;
const ownerHandle = 0x40000001;
const passwordSession = 0x40000009;
const headerSize = 10;
/** Retries wait this long at first, in milliseconds, and twice as long each time. */
const firstBackoff = 1;

/** TPM2_PCR_Extend of the SHA-256 bank. */
export function marshalPcrExtend(pcr: number, sha256: Uint8Array): Uint8Array {
  const body = emptyPassword(new Writer().u32(pcr)).u32(1).u16(algorithm.sha256).bytes(sha256);
  return command(commandCode.pcrExtend, body.done());
}

/** TPM2_NV_Increment of a counter, authorized by the owner. */
export function marshalNvIncrement(index: number): Uint8Array {
  const body = emptyPassword(new Writer().u32(ownerHandle).u32(index));
  return command(commandCode.nvIncrement, body.done());
}

/** TPM2_NV_UndefineSpace of an index, authorized by the owner. */
export function marshalNvUndefine(index: number): Uint8Array {
  const body = emptyPassword(new Writer().u32(ownerHandle).u32(index));
  return command(commandCode.nvUndefineSpace, body.done());
}

/** TPM2_FlushContext of an object or a session. */
export function marshalFlush(handle: number): Uint8Array {
  return command(commandCode.flushContext, new Writer().u32(handle).done(), tagNoSessions);
}

/** Authorization area with one session: the empty password. */
function emptyPassword(writer: Writer): Writer {
  return writer.u32(9).u32(passwordSession).u16(0).u8(0).u16(0);
}

function command(code: number, body: Uint8Array, tag = tagSessions): Uint8Array {
  const size = headerSize + body.byteLength;
  return new Writer().u16(tag).u32(size).u32(code).bytes(body).done();
}

/** Sends marshalled commands, blocking, on a handle of its own. Everything is opened in the constructor. */
export class RawTransport implements Disposable {
  readonly #transport: Transport;
  /** To sleep on: nobody wakes it. */
  readonly #never = new Int32Array(new SharedArrayBuffer(4));

  constructor(channel: RawChannel) {
    this.#transport = openTransport(channel.tcti);
  }

  /**
   * Returns the TPM's response code (0 is success); the answer is in `response` (4096 bytes always suffice). A TPM that asks
   * for the command again gets it within the time limit, which is for all tries together; what it said last is returned.
   * @throws TpmError `tpm-timeout` when no answer came in time; `tpm-connection-lost`.
   */
  transmit(command: Uint8Array, response: Uint8Array, timeoutMilliseconds: number): number {
    const deadline = performance.now() + timeoutMilliseconds;
    const view = new DataView(response.buffer, response.byteOffset);
    for (let backoff = firstBackoff; ; backoff *= 2) {
      this.#transport.exchange(command, response, Math.max(1, deadline - performance.now()));
      const rc = view.getUint32(6);
      // Another try is worth it when it leaves as long again for the answer.
      if (!isRetry(rc) || performance.now() + 2 * backoff > deadline) return rc;
      Atomics.wait(this.#never, 0, 0, backoff);
    }
  }

  [Symbol.dispose](): void {
    this.#transport[Symbol.dispose]();
  }
}
