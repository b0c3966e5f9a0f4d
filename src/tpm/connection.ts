// One ESYS context and its way to a TPM. Commands are queued; each has a time limit (TSS 2.0 ESAPI, section 6).
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../host/failure.ts';
import { type Command, type CommandName, noSessions } from './commands.ts';
import { loadTss, type NativeArgument, type NativeFunction, type Tss } from './library.ts';
import { Loopback } from './loopback.ts';
import { isRetry, TpmError, tpmError } from './responses.ts';
import { openTransport, type Transport } from './transport.ts';
import { Writer } from './wire.ts';

const startupClear = 0;
const propertiesCapability = 6;
const manufacturerProperty = 0x105;
const notStarted = 0x100;
const mostOutputs = 5;
const longestAnswer = 4096;
/** Retries wait this long at first, in milliseconds, and twice as long each time. */
const firstBackoff = 2;
/** An answer of the TPM's form, TPM_RC_CANCELED, for ESYS to end a command that got none. */
const cancelled = new Writer().u16(0x8001).u32(10).u32(0x909).done();

/** What a command has besides its inputs and results. */
export interface Extras {
  /** A time limit longer than the connection's, for what is known to take longer. */
  readonly atLeastMilliseconds?: number;
  /** Runs in the command's own turn once it is over, refused and unanswered ones included: nothing comes between. */
  readonly afterwards?: () => void;
}

/** Addresses of structures that ESYS allocated, or numbers, as the command's outputs say. */
export type Results = readonly bigint[];

export class Connection {
  readonly tss: Tss;
  readonly esys: bigint;
  /** How many here hold an ESYS_TR that ESYS gives to all who ask; changed only in turns of this connection. */
  readonly holders = new Map<number, number>();
  readonly #loopback: Loopback;
  readonly #transport: Transport;
  readonly #timeoutMilliseconds: number;
  readonly #outputs = new BigUint64Array(mostOutputs);
  readonly #response = new Uint8Array(longestAnswer);
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(tss: Tss, transport: Transport, timeoutMilliseconds: number) {
    this.tss = tss;
    this.#transport = transport;
    this.#timeoutMilliseconds = timeoutMilliseconds;
    this.#loopback = new Loopback(tss.memory);
    const address = new BigUint64Array(1);
    const rc = tss.esysInitialize(address, this.#loopback.address, null);
    if (rc !== 0) throw tpmError(rc, 'Esys_Initialize');
    this.esys = address[0] ?? 0n;
  }

  /**
   * Connects, starts the TPM if nobody has, and asks it one question.
   * @throws Failure `tss-missing`; `tpm-unreachable`.
   */
  static async open(tcti: string, timeoutMilliseconds: number): Promise<Connection> {
    const tss = loadTss();
    let connection: Connection | undefined;
    try {
      connection = new Connection(tss, openTransport(tcti), timeoutMilliseconds);
      await connection.#greet();
      return connection;
    } catch (cause) {
      await connection?.close();
      throw unreachable(tcti, cause);
    }
  }

  /**
   * Runs one command after those before it and hands its results to `read`, after which they are wiped and freed.
   * A TPM that asks for a retry gets it within the time limit.
   * @throws TpmError
   */
  execute<T = void>(
    name: CommandName,
    inputs: readonly NativeArgument[],
    read: (results: Results) => T = () => undefined as T,
    extras: Extras = {},
  ): Promise<T> {
    const limit = Math.max(this.#timeoutMilliseconds, extras.atLeastMilliseconds ?? 0);
    return this.#enqueue(name, async () => {
      try {
        return await this.#run(this.tss.command(name), inputs, read, limit);
      } finally {
        extras.afterwards?.();
      }
    });
  }

  /** Runs `work` between commands: for ESYS functions that ask the TPM nothing. */
  between<T>(work: () => T): Promise<T> {
    return this.#enqueue('The call', work);
  }

  /** An address on the stack that the last ESYS call ran on. */
  get stackAddress(): bigint {
    return this.#loopback.stackAddress;
  }

  /** Waits for the commands under way, then takes the connection down. Safe to repeat. */
  async close(): Promise<void> {
    await this.#last;
    if (this.#closed) return;
    this.#closed = true;
    this.tss.esysFinalize(BigUint64Array.of(this.esys));
    this.#loopback[Symbol.dispose]();
    this.#transport[Symbol.dispose]();
  }

  #enqueue<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    const turn = this.#last.then(() => {
      if (!this.#closed) return work();
      throw new TpmError('tpm-closed', `${name} came after the TPM connection was closed.`, 0, 'appliance');
    });
    this.#last = turn.catch(() => {});
    return turn;
  }

  async #greet(): Promise<void> {
    const question = [...noSessions, propertiesCapability, manufacturerProperty, 1];
    try {
      await this.execute('GetCapability', question);
    } catch (error) {
      if (!(error instanceof TpmError) || error.rc !== notStarted) throw error;
      await this.execute('Startup', [startupClear]);
    }
  }

  async #run<T>(
    command: Command<NativeFunction>,
    inputs: readonly NativeArgument[],
    read: (results: Results) => T,
    limit: number,
  ): Promise<T> {
    const submitted = command.submit(this.esys, ...inputs);
    if (submitted !== 0) throw tpmError(submitted, command.name);
    const failure = await this.#exchange(command.name, limit).catch((error: unknown) => {
      this.#loopback.answer(cancelled);
      return error;
    });
    const rc = this.#finish(command);
    if (failure !== undefined) throw failure;
    if (rc !== 0) throw tpmError(rc, command.name);
    return this.#deliver(command.outputs, read);
  }

  /** Carries the command that ESYS submitted to the TPM and its answer back, again while the TPM asks for that. */
  async #exchange(name: CommandName, limit: number): Promise<undefined> {
    const command = this.#loopback.takeCommand() ?? new Uint8Array();
    const deadline = performance.now() + limit;
    for (let backoff = firstBackoff; ; backoff *= 2) {
      const left = Math.max(1, deadline - performance.now());
      const length = await this.#transport.exchangeInBackground(command, this.#response, left);
      const rc = new DataView(this.#response.buffer).getUint32(6);
      if (!isRetry(rc)) {
        this.#loopback.answer(this.#response.subarray(0, length));
        return;
      }
      // Another try is worth it when it leaves as long again for the answer.
      if (performance.now() + 2 * backoff > deadline) throw tpmError(rc, name);
      await sleep(backoff);
    }
  }

  #finish(command: Command<NativeFunction>): number {
    this.#outputs.fill(0n);
    const slots = [...command.outputs].map((_, index) => this.#outputs.subarray(index, index + 1));
    return command.finish(this.esys, ...slots);
  }

  /** Any result may hold a secret, so all are wiped: to know which would be to be wrong one day. */
  #deliver<T>(outputs: string, read: (results: Results) => T): T {
    const { memory } = this.tss;
    const results = [...this.#outputs.subarray(0, outputs.length)];
    try {
      return read(results);
    } finally {
      [...outputs].forEach((kind, index) => {
        const address = results[index] ?? 0n;
        if (kind !== 'p' || address === 0n) return;
        memory.cleanse(address, memory.usableSize(address));
        memory.free(address);
      });
    }
  }
}

function unreachable(tcti: string, cause: unknown): Failure {
  const reason = cause instanceof Error ? ` ${cause.message}` : '';
  return new Failure('tpm-unreachable', `No TPM answers at "${tcti}".${reason}`, {
    remedy:
      'Check --tpm (usually `device:/dev/tpmrm0`). For a simulator: `swtpm socket --tpm2 --tpmstate dir=/absolute/path --server type=unixio,path=/run/swtpm.sock --ctrl type=unixio,path=/run/swtpm.sock.ctrl --flags not-need-init,startup-clear`, then `--tpm swtpm:path=/run/swtpm.sock`. Or run without a TPM (--no-tpm).',
    cause,
  });
}
