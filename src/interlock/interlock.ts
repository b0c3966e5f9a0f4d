// The interlock as the main thread sees it: starts the watcher, presses the red button, and takes over the stages where the watcher
// is lost. Maintenance windows: window.ts.
import { Worker } from 'node:worker_threads';
import type { SecretArena } from '../host/arena.ts';
import { Failure } from '../host/failure.ts';
import { close as closeDescriptor, eventfd, write } from '../host/libc.ts';
import type { Interface } from '../host/netlink.ts';
import { Board, type KernelAction, moment, nowMicros, phase, word } from './board.ts';
import { type Cause, causeNamed, causeNumber, levels, type ZeroizeLevel } from './causes.ts';
import { type BeatingThread, Heartbeats, type LateBeat } from './heartbeats.ts';
import { outcomeOf, type ZeroizeOutcome } from './outcome.ts';
import { type StagePlan, Stages } from './stages.ts';
import type { WatcherEvent } from './watch.ts';
import { defaultSysfs, watchedInterfaces } from './watched.ts';
import type { WatcherInput } from './watcher.ts';
import {
  type MaintenanceWindow,
  type OpenedWindow,
  type WindowClosed,
  type WindowRequest,
  Windows,
} from './window.ts';

export interface InterlockOptions {
  readonly arena: SecretArena;
  /** Names; `any` stands for all physical interfaces, `CPU` for none. */
  readonly interfaces: readonly string[];
  readonly plan: StagePlan;
  readonly pollMilliseconds: number;
  readonly heartbeatMilliseconds: number;
  readonly plannedFlapsPerHour: number;
  /** Descriptors that stand for a tamper contact: readable means tampered with. Closed by whoever opened them. */
  readonly tamper?: readonly number[];
  /** Where sysfs shows interfaces, if not in its usual place. */
  readonly sysfs?: string;
  readonly onZeroized: (outcome: ZeroizeOutcome) => void;
  readonly onEvent: (event: InterlockEvent) => void;
}

export type InterlockEvent =
  | Extract<WatcherEvent, { kind: 'planned-flap' | 'carrier' | 'appeared' }>
  | WindowClosed
  | LateBeat;

/** How long a watcher may take to end: it may be in its TPM stage. One that is lost is not waited for as long. */
const longestEndMilliseconds = { watching: 10_000, lost: 500 } as const;

export class Interlock implements AsyncDisposable {
  readonly #options: InterlockOptions;
  readonly #board = new Board();
  readonly #wakeup: number;
  readonly #watched: Interface[];
  readonly #worker: Worker;
  readonly #beat: NodeJS.Timeout;
  readonly #windows: Windows;
  readonly #beats: Heartbeats;
  #reported = false;
  #stopped = false;
  #first = false;
  #lost = false;

  private constructor(options: InterlockOptions) {
    this.#options = options;
    this.#beats = new Heartbeats(options.heartbeatMilliseconds);
    const { sysfs = defaultSysfs } = options;
    this.#watched = watchedInterfaces(options.interfaces, sysfs);
    this.#watched.forEach((link, position) => {
      this.#board.watch(position, link);
    });
    this.#windows = new Windows({
      board: this.#board,
      watched: this.#watched,
      plannedFlapsPerHour: options.plannedFlapsPerHour,
      wake: () => this.#wake(),
      onClosed: (event) => options.onEvent(event),
    });
    this.#wakeup = eventfd(0, 0o2004000); // EFD_CLOEXEC, EFD_NONBLOCK
    const input: WatcherInput = {
      arena: options.arena.region,
      board: this.#board.memory,
      wakeup: this.#wakeup,
      tamper: options.tamper ?? [],
      interfaces: [...this.#watched],
      adopt: options.interfaces.includes('any') ? sysfs : null,
      plan: options.plan,
      pollMilliseconds: options.pollMilliseconds,
      heartbeatMilliseconds: options.heartbeatMilliseconds,
    };
    Atomics.store(this.#board.words, word.mainBeat, this.#board.now());
    this.#worker = new Worker(new URL(import.meta.url.replace(/interlock(\.[jt]s)$/, 'watcher$1')), {
      workerData: input,
      name: 'watcher',
    });
    this.#beat = setInterval(() => this.#heartbeat(), Math.max(20, options.heartbeatMilliseconds / 10));
  }

  /** Resolves once the watcher has compared its first counters. @throws Failure `interface-missing`. */
  static async start(options: InterlockOptions): Promise<Interlock> {
    const interlock = new Interlock(options);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    interlock.#worker.on('message', (event: WatcherEvent) => {
      if (event.kind === 'armed') {
        interlock.#first = event.first;
        resolve();
      } else if (event.kind === 'zeroized') interlock.#report();
      else {
        if (event.kind === 'appeared' && event.link !== undefined) interlock.#watched.push(event.link);
        if (event.kind === 'planned-flap') interlock.#windows.countPlanned(event.interface, event.flaps);
        options.onEvent(event);
      }
    });
    interlock.#worker.on('error', reject); // Its end follows.
    interlock.#worker.on('exit', () => {
      reject(new Failure('watcher-lost', 'The watcher thread ended before it was armed.'));
      interlock.#watcherLost();
    });
    try {
      await promise;
      return interlock;
    } catch (error) {
      await interlock[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Makes an action part of the kernel stage: call it before the key is where the action takes it away. */
  addKernelAction(action: KernelAction): void {
    this.#board.addAction(action);
  }

  /** @throws as `Windows.open`. */
  openWindow(request: WindowRequest): OpenedWindow {
    return this.#windows.open(request);
  }

  /** As `Windows.close`, for the operator. */
  closeWindow(why: string): MaintenanceWindow {
    return this.#windows.close(why);
  }

  get window(): MaintenanceWindow | undefined {
    return this.#windows.window;
  }

  /** As `Windows.remember`. */
  remember(name: string, flaps: number, milliseconds: number): void {
    this.#windows.remember(name, flaps, milliseconds);
  }

  /** The red button. Resolves when all stages have run; on a zeroized node it adds what a higher level asks for. */
  async zeroize(cause: Cause, level?: ZeroizeLevel): Promise<ZeroizeOutcome> {
    const { words } = this.#board;
    if (level !== undefined && this.outcome !== undefined) {
      using stages = new Stages(this.#options.arena, this.#board, this.#options.plan);
      stages.deepen(level);
      return outcomeOf(this.#board, this.#watched);
    }
    if (level !== undefined) Atomics.store(words, word.requestedLevel, levels.indexOf(level) + 1);
    Atomics.store(words, word.request, causeNumber(cause));
    this.#wake();
    const deadline = this.#board.now() + this.#options.heartbeatMilliseconds;
    while (Atomics.load(words, word.phase) !== phase.zeroized) {
      if (this.#board.now() > deadline && Atomics.load(words, word.cause) === 0) this.#runStagesHere(cause);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    this.#report(); // The watcher's own word may come too late for a node that is being stopped.
    return outcomeOf(this.#board, this.#watched);
  }

  get outcome(): ZeroizeOutcome | undefined {
    return Atomics.load(this.#board.words, word.phase) === phase.zeroized
      ? outcomeOf(this.#board, this.#watched)
      : undefined;
  }

  status(): {
    phase: string;
    watched: { interface: string; carrier: boolean; upCount: number; downCount: number }[];
    window: ReturnType<Windows['status']>;
    armedAtMicros: number;
    /** The watcher's thread runs before all ordinary ones. */
    realTime: boolean;
    /** As `Heartbeats.status`. */
    heartbeats: ReturnType<Heartbeats['status']>;
    decisions: { sequence: number; micros: number; verdict: string; interface: string | null }[];
  } {
    const { words, moments } = this.#board;
    const current = Atomics.load(words, word.phase);
    return {
      phase: Object.entries(phase).find(([, value]) => value === current)?.[0] ?? 'unknown',
      watched: this.#watched.map((link, position) => {
        const [, carrier = 0, upCount = 0, downCount = 0] = this.#board.watched(position);
        return { interface: link.name, carrier: carrier === 1, upCount, downCount };
      }),
      window: this.#windows.status(),
      armedAtMicros: Math.round(moments[moment.armed] ?? 0),
      realTime: this.#first,
      heartbeats: this.#beats.status(),
      decisions: this.#board.decisions().map(({ sequence, micros, verdict, interfaceIndex }) => ({
        sequence,
        micros: Math.round(micros),
        verdict: verdict < 0 ? `${-verdict} planned` : (causeNamed(verdict) ?? 'unknown'),
        interface: this.#watched.find(({ index }) => index === interfaceIndex)?.name ?? null,
      })),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    clearInterval(this.#beat);
    this.#reported = true;
    Atomics.store(this.#board.words, word.stop, 1);
    this.#wake();
    if (await this.#ended()) closeDescriptor(this.#wakeup);
  }

  /** False where the thread did not end in its time: nobody tells of one that the kernel has ended, and it must not keep the process. */
  #ended(): Promise<boolean> {
    if (this.#worker.threadId === -1) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(
        () => {
          this.#worker.unref();
          resolve(false);
        },
        longestEndMilliseconds[this.#lost ? 'lost' : 'watching'],
      );
      this.#worker.once('exit', () => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  #wake(): void {
    write(this.#wakeup, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]), 8);
  }

  #heartbeat(): void {
    const { words } = this.#board;
    const silence = { main: this.#board.since(word.mainBeat), watcher: this.#board.since(word.watcherBeat) };
    Atomics.store(words, word.mainBeat, this.#board.now());
    const current = Atomics.load(words, word.phase);
    if (current === phase.armed) this.#listen(silence);
    this.#windows.tellExpired();
    const silent = silence.watcher > this.#options.heartbeatMilliseconds;
    if (silent && (current === phase.armed || current === phase.zeroizing)) this.#watcherLost();
  }

  #listen(silence: Readonly<Record<BeatingThread, number>>): void {
    for (const thread of ['main', 'watcher'] as const) {
      const late = this.#beats.silent(thread, silence[thread], this.#board.now());
      if (late !== undefined) this.#options.onEvent(late);
    }
  }

  /**
   * Fail closed: a watcher that is gone while it should watch is a cause of its own, and stages that it began and did not end
   * are ended here.
   */
  #watcherLost(): void {
    if (this.#reported || Atomics.load(this.#board.words, word.stop) !== 0) return;
    // One that was never armed has guarded nothing yet: the start fails, and that is all.
    if (Atomics.load(this.#board.words, word.phase) === phase.starting) return;
    this.#lost = true;
    if (Atomics.load(this.#board.words, word.cause) === 0) this.#runStagesHere('watcher-lost');
    else if (Atomics.load(this.#board.words, word.phase) !== phase.zeroized) {
      using stages = new Stages(this.#options.arena, this.#board, this.#options.plan);
      this.#board.addAlso(causeNumber('watcher-lost'), 0);
      stages.resume();
    }
    this.#report();
  }

  /** Memory first: what the other stages need may not be there any more. */
  #runStagesHere(cause: Cause): void {
    this.#options.arena.wipe();
    using stages = new Stages(this.#options.arena, this.#board, this.#options.plan);
    if (stages.run(causeNumber(cause), 0, nowMicros())) this.#report();
  }

  #report(): void {
    if (this.#reported) return;
    this.#reported = true;
    this.#options.onZeroized(outcomeOf(this.#board, this.#watched));
    if (this.window !== undefined) this.#windows.close('the node was zeroized', 'zeroized');
  }
}
