// The stages of a zeroize, in the order of invariant 4: memory, kernel, TPM, disk. Run by the watcher thread, and by the main
// thread only where the watcher is lost. No stage spawns a process; each is timed by itself.
import { closeSync, existsSync, fsyncSync, openSync, statSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { SecretArena } from '../host/arena.ts';
import { syncDirectory, writeDurably } from '../host/durable.ts';
import { ENODEV, NetlinkSocket } from '../host/netlink.ts';
import { endProcess } from '../host/pidfd.ts';
import { type RawChannel, RawTransport } from '../tpm/raw.ts';
import { type Board, moment, nowMicros, phase, stage, word } from './board.ts';
import { causeNumber, causes, levels, type ZeroizeLevel } from './causes.ts';
import { Marker } from './marker.ts';

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
    /** Sealed blobs and the seed file: overwritten and unlinked at level destroy. */
    readonly blobs: readonly string[];
  };
}

/** Results of a stage that are no time: 0 is success, -1 "not part of this level", else an error number. */
export const stageSkipped = -1;
const stageFailed = 1;

/** What a thread adds when its own zeroize has run all stages, before that is told: causes that have come meanwhile. */
export type LateCauses = () => void;

/** Everything that the stages need, opened beforehand, except where there is no time for it left: see `connect`. */
export class Stages implements Disposable {
  readonly #arena: SecretArena;
  readonly #board: Board;
  readonly #plan: StagePlan;
  readonly #netlink = new NetlinkSocket({ events: false });
  readonly #marker: Marker | undefined;
  #transport: RawTransport | undefined;
  readonly #response = new Uint8Array(4096);

  /** `rehearsal`: neither TPM nor disk is touched, for the code is only to be warm when it is needed. */
  constructor(arena: SecretArena, board: Board, plan: StagePlan, rehearsal = false) {
    this.#arena = arena;
    this.#board = board;
    this.#plan = plan;
    this.#marker = rehearsal ? undefined : new Marker(plan.disk.statePath);
  }

  /** Call it often: what is to be wiped is at hand then. */
  keepReady(): void {
    this.#arena.keepAtHand();
  }

  /** Connects to the TPM. Left out, the TPM stage does so itself: memory comes before a TPM that may be gone. */
  connect(): void {
    if (this.#plan.tpm !== null) this.#transport ??= new RawTransport(this.#plan.tpm.channel);
  }

  /**
   * Runs all stages once; a second caller's cause is noted, and it returns false at once. Nothing that fails stops what comes
   * after it.
   */
  run(cause: number, interfaceIndex: number, detectedMicros: number, lateCauses?: LateCauses): boolean {
    const { words, moments } = this.#board;
    if (Atomics.compareExchange(words, word.cause, 0, cause) !== 0) {
      this.#board.addAlso(cause, interfaceIndex);
      return false;
    }
    this.#arena.wipe();
    moments[moment.memory] = nowMicros();
    moments[moment.detected] = detectedMicros;
    Atomics.store(words, word.causeInterface, interfaceIndex);
    this.#afterMemory(lateCauses);
    return true;
  }

  /**
   * Finishes what another thread began and did not end, from the first stage that it had not completed. Each stage may run
   * twice: an interface or a share that is gone, a PCR that is extended once more, a counter that is one further and a file that
   * is overwritten already do no harm.
   */
  resume(): void {
    const { words, moments } = this.#board;
    this.#arena.wipe();
    if (moments[moment.memory] === 0) moments[moment.memory] = nowMicros();
    if (moments[moment.detected] === 0) moments[moment.detected] = moments[moment.memory] ?? 0;
    if (Atomics.load(words, word.phase) !== phase.zeroized) this.#afterMemory();
  }

  /** What a higher level adds to a zeroize that has run. False where it adds nothing. */
  deepen(level: ZeroizeLevel): boolean {
    const { words, moments } = this.#board;
    if (levels.indexOf(level) < Atomics.load(words, word.level)) return false;
    // What failed before is tried again; what was done is not done twice.
    const done =
      Atomics.load(words, word.tpmResult) === 0 ? levels[Atomics.load(words, word.level) - 1] : undefined;
    Atomics.store(words, word.level, levels.indexOf(level) + 1);
    this.#marker?.begin(Atomics.load(words, word.cause), level);
    const began = nowMicros();
    Atomics.store(words, word.tpmResult, this.#lockTpm(level, done));
    const locked = nowMicros();
    Atomics.store(words, word.diskResult, this.#markDisk(Atomics.load(words, word.cause), level));
    // What each stage has taken altogether, as if it had gone on.
    moments[moment.tpm] = (moments[moment.tpm] ?? 0) + locked - began;
    moments[moment.disk] = (moments[moment.disk] ?? 0) + nowMicros() - began;
    this.#syncMarker();
    this.#clearMarker();
    return true;
  }

  [Symbol.dispose](): void {
    this.#netlink[Symbol.dispose]();
    this.#transport?.[Symbol.dispose]();
    this.#marker?.[Symbol.dispose]();
  }

  #afterMemory(lateCauses?: LateCauses): void {
    const { words } = this.#board;
    const cause = Atomics.load(words, word.cause);
    const level = this.#levelOf(cause);
    Atomics.store(words, word.level, levels.indexOf(level) + 1);
    Atomics.store(words, word.phase, phase.zeroizing);
    this.#ended(stage.memory);
    if (this.#isDue(stage.kernel)) {
      this.#marker?.begin(cause, level);
      this.#removeLinks();
      this.#ended(stage.kernel);
    }
    if (this.#isDue(stage.tpm)) {
      Atomics.store(words, word.tpmResult, this.#lockTpm(level));
      this.#ended(stage.tpm);
    }
    if (this.#isDue(stage.disk)) {
      Atomics.store(words, word.diskResult, this.#markDisk(cause, level));
      this.#ended(stage.disk);
    }
    lateCauses?.();
    const highest = Math.max(...this.#board.also().map((late) => levels.indexOf(this.#levelOf(late.cause))));
    if (highest >= Atomics.load(words, word.level)) this.deepen(levels[highest] ?? 'lock');
    this.#clearMarker();
    Atomics.store(words, word.phase, phase.zeroized);
    Atomics.notify(words, word.phase);
  }

  #isDue(which: number): boolean {
    return Atomics.load(this.#board.words, word.stage) < which;
  }

  /** Also a sign of life: whoever waits for this thread sees that it goes on. */
  #ended(which: number): void {
    const { words, moments } = this.#board;
    if (which !== stage.memory) moments[moment.memory + which - stage.memory] = nowMicros();
    Atomics.store(words, word.watcherBeat, this.#board.now());
    Atomics.store(words, word.stage, Math.max(which, Atomics.load(words, word.stage)));
    if (which === stage.kernel && Atomics.load(words, word.kernelFailures) === 0)
      this.#marker?.stageDone('kernel');
    if (which === stage.tpm && Atomics.load(words, word.tpmResult) <= 0) this.#marker?.stageDone('tpm');
    if (which !== stage.disk) return;
    if (Atomics.load(words, word.diskResult) === 0) this.#marker?.stageDone('disk');
    this.#syncMarker();
  }

  /** Where the disk stage failed, the mark is all that says how far the zeroize is to go. */
  #syncMarker(): void {
    if (Atomics.load(this.#board.words, word.diskResult) !== 0) this.#marker?.sync();
  }

  /** A stage that failed stays marked: the next start tries it again. */
  #clearMarker(): void {
    const { words } = this.#board;
    const failed = Atomics.load(words, word.tpmResult) > 0 || Atomics.load(words, word.diskResult) !== 0;
    if (!failed) this.#marker?.clear();
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

  /** What an operator asked for, here or from afar; of any other cause what the policy says, and no less than was asked for meanwhile. */
  #levelOf(cause: number): ZeroizeLevel {
    const requested = Atomics.load(this.#board.words, word.requestedLevel) - 1;
    const planned = levels.indexOf(this.#plan.levels[cause - 1] ?? 'lock');
    const commanded = cause === causeNumber('operator') || cause === causeNumber('remote-command');
    if (commanded && requested >= 0) return levels[requested] ?? 'lock';
    return levels[Math.max(requested, planned)] ?? 'lock';
  }

  /** Sends the commands of `level`, those of the level that is `done` left out. */
  #lockTpm(level: ZeroizeLevel, done?: ZeroizeLevel): number {
    const { tpm } = this.#plan;
    if (this.#marker === undefined || tpm === null || level === 'purge') return stageSkipped;
    const [from, to] = [done === undefined ? -1 : levels.indexOf(done), levels.indexOf(level)];
    let result = 0;
    for (const { level: least, command } of tpm.commands) {
      if (levels.indexOf(least) <= from || levels.indexOf(least) > to) continue;
      try {
        this.#transport ??= new RawTransport(tpm.channel);
        Atomics.store(this.#board.words, word.watcherBeat, this.#board.now());
        const code = this.#transport.transmit(command, this.#response, tpm.timeoutMilliseconds);
        if (code !== 0 && !(least === 'destroy' && isGone(code))) result = code;
      } catch {
        result = stageFailed;
      }
    }
    return result;
  }

  #markDisk(cause: number, level: ZeroizeLevel): number {
    const { statePath, blobs } = this.#plan.disk;
    if (this.#marker === undefined) return stageSkipped;
    let result = 0;
    const attempt = (step: () => void): void => {
      try {
        step();
      } catch {
        result = stageFailed;
      }
    };
    const locked = Atomics.load(this.#board.words, word.tpmResult) <= 0;
    attempt(() => writeDurably(statePath, zeroizedState(cause, level, locked)));
    if (level === 'destroy') for (const blob of blobs) attempt(() => overwrite(blob));
    return result;
  }
}

/** Whether what was to be undefined is gone already: TPM_RC_HANDLE, whichever handle it is about. TPM 2.0 Part 2, 6.6.3. */
const isGone = (code: number): boolean => (code & 0xbf) === 0x8b;

/** The lifecycle file's content after a zeroize; `src/keys/lifecycle.ts` reads it. */
function zeroizedState(cause: number, level: ZeroizeLevel, locked: boolean): string {
  const since = new Date().toISOString();
  const left = locked ? {} : { tpm: 'failed' };
  return `${JSON.stringify({ state: 'zeroized', since, cause: causes[cause - 1], level, ...left })}\n`;
}

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
