// The stages of a zeroize, in the order of invariant 4: memory, kernel, TPM, disk. Run by the watcher thread, and by the main
// thread only where the watcher is lost. No stage spawns a process; each is timed by itself.
import { closeSync, existsSync, fsyncSync, openSync, statSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { SecretArena } from '../host/arena.ts';
import { syncDirectory, writeDurably } from '../host/durable.ts';
import { ENODEV, NetlinkSocket } from '../host/netlink.ts';
import { endProcess } from '../host/pidfd.ts';
import { type RawChannel, RawTransport } from '../tpm/raw.ts';
import { type Board, moment, nowMicros, phase, word } from './board.ts';
import { causeNumber, causes, levels, type ZeroizeLevel } from './causes.ts';

/** A command marshalled beforehand, and the lowest level that sends it. */
export interface TpmCommand {
  readonly level: ZeroizeLevel;
  readonly command: Uint8Array;
}

/** What the TPM and disk stages will do: made ready before the first unseal, so that it can cross to the thread. */
export interface StagePlan {
  /** By cause, in the order of `causes`. */
  readonly levels: readonly ZeroizeLevel[];
  readonly tpm: {
    readonly channel: RawChannel;
    /** In this order: the cap PCR's extension first. */
    readonly commands: readonly TpmCommand[];
    readonly timeoutMilliseconds: number;
  } | null;
  readonly disk: {
    /** The lifecycle file; `zeroized` is written to it whatever happens later. */
    readonly statePath: string;
    /** Sealed blobs, overwritten and unlinked at level destroy. */
    readonly blobs: readonly string[];
  };
}

/** Results of a stage that are no time: 0 is success, -1 "not part of this level", else an error number. */
export const stageSkipped = -1;
const stageFailed = 1;

/** Everything that the stages need, opened beforehand, except where there is no time for it left: see `connect`. */
export class Stages implements Disposable {
  readonly #arena: SecretArena;
  readonly #board: Board;
  readonly #plan: StagePlan;
  readonly #netlink = new NetlinkSocket({ events: false });
  #transport: RawTransport | undefined;
  readonly #response = new Uint8Array(4096);

  constructor(arena: SecretArena, board: Board, plan: StagePlan) {
    this.#arena = arena;
    this.#board = board;
    this.#plan = plan;
  }

  /** Connects to the TPM. Left out, the TPM stage does so itself: memory comes before a TPM that may be gone. */
  connect(): void {
    if (this.#plan.tpm !== null) this.#transport ??= new RawTransport(this.#plan.tpm.channel);
  }

  /** Runs all stages once; a second caller returns false at once. Nothing that fails stops what comes after it. */
  run(cause: number, interfaceIndex: number, detectedMicros: number): boolean {
    const { words, moments } = this.#board;
    if (Atomics.compareExchange(words, word.cause, 0, cause) !== 0) return false;
    this.#arena.wipe();
    moments[moment.memory] = nowMicros();
    moments[moment.detected] = detectedMicros;
    const level = this.#levelOf(cause);
    Atomics.store(words, word.level, levels.indexOf(level) + 1);
    Atomics.store(words, word.causeInterface, interfaceIndex);
    Atomics.store(words, word.phase, phase.zeroizing);
    this.#removeLinks();
    moments[moment.kernel] = nowMicros();
    Atomics.store(words, word.tpmResult, this.#lockTpm(level));
    moments[moment.tpm] = nowMicros();
    Atomics.store(words, word.diskResult, this.#markDisk(cause, level));
    moments[moment.disk] = nowMicros();
    Atomics.store(words, word.phase, phase.zeroized);
    Atomics.notify(words, word.phase);
    return true;
  }

  /** What a higher level adds to a zeroize that has run. False where it adds nothing. */
  deepen(level: ZeroizeLevel): boolean {
    const { words } = this.#board;
    if (levels.indexOf(level) < Atomics.load(words, word.level)) return false;
    // What failed before is tried again; what was done is not done twice.
    const done =
      Atomics.load(words, word.tpmResult) === 0 ? levels[Atomics.load(words, word.level) - 1] : undefined;
    Atomics.store(words, word.level, levels.indexOf(level) + 1);
    Atomics.store(words, word.tpmResult, this.#lockTpm(level, done));
    Atomics.store(words, word.diskResult, this.#markDisk(Atomics.load(words, word.cause), level));
    return true;
  }

  [Symbol.dispose](): void {
    this.#netlink[Symbol.dispose]();
    this.#transport?.[Symbol.dispose]();
  }

  /** Processes that hold a key are ended first, which takes microseconds; removing an interface waits for the kernel. */
  #removeLinks(): void {
    let failures = 0;
    const actions = this.#board.actions();
    for (const action of actions) if ('pidfd' in action && !endProcess(action.pidfd)) failures += 1;
    for (const action of actions) {
      if (!('message' in action)) continue;
      const refused = this.#netlink.request(action.message);
      if (refused !== 0 && refused !== ENODEV) failures += 1; // An interface that is gone needs no removal.
    }
    Atomics.store(this.#board.words, word.kernelFailures, failures);
  }

  /** What the operator asked for; of any other cause what the policy says, and no less than was asked for meanwhile. */
  #levelOf(cause: number): ZeroizeLevel {
    const requested = Atomics.load(this.#board.words, word.requestedLevel) - 1;
    const planned = levels.indexOf(this.#plan.levels[cause - 1] ?? 'lock');
    if (cause === causeNumber('operator') && requested >= 0) return levels[requested] ?? 'lock';
    return levels[Math.max(requested, planned)] ?? 'lock';
  }

  /** Sends the commands of `level`, those of the level that is `done` left out. */
  #lockTpm(level: ZeroizeLevel, done?: ZeroizeLevel): number {
    const { tpm } = this.#plan;
    if (tpm === null || level === 'purge') return stageSkipped;
    const [from, to] = [done === undefined ? -1 : levels.indexOf(done), levels.indexOf(level)];
    let result = 0;
    for (const { level: least, command } of tpm.commands) {
      if (levels.indexOf(least) <= from || levels.indexOf(least) > to) continue;
      try {
        this.#transport ??= new RawTransport(tpm.channel);
        const code = this.#transport.transmit(command, this.#response, tpm.timeoutMilliseconds);
        if (code !== 0) result = code;
      } catch {
        result = stageFailed;
      }
    }
    return result;
  }

  #markDisk(cause: number, level: ZeroizeLevel): number {
    const { statePath, blobs } = this.#plan.disk;
    let result = 0;
    const attempt = (step: () => void): void => {
      try {
        step();
      } catch {
        result = stageFailed;
      }
    };
    attempt(() => writeDurably(statePath, zeroizedState(cause, level)));
    if (level === 'destroy') for (const blob of blobs) attempt(() => overwrite(blob));
    return result;
  }
}

/** The lifecycle file's content after a zeroize; `src/keys/lifecycle.ts` reads it. */
const zeroizedState = (cause: number, level: ZeroizeLevel): string =>
  `${JSON.stringify({ state: 'zeroized', since: new Date().toISOString(), cause: causes[cause - 1], level })}\n`;

/** Overwritten in place, synced, unlinked: what a copy-on-write or flash disk makes of that is said in docs/security.md. */
function overwrite(path: string): void {
  if (!existsSync(path)) return;
  const { size } = statSync(path);
  const fd = openSync(path, 'r+');
  try {
    writeSync(fd, new Uint8Array(size), 0, size, 0);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  unlinkSync(path);
  syncDirectory(dirname(path));
}
