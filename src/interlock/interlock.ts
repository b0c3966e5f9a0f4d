// The interlock as the main thread sees it: starts the watcher, opens and closes maintenance windows, presses the red button,
// and takes over the stages where the watcher is lost.
import { Worker } from 'node:worker_threads';
import type { SecretArena } from '../host/arena.ts';
import { Failure, zeroizedFailure } from '../host/failure.ts';
import { close as closeDescriptor, eventfd, write } from '../host/libc.ts';
import type { Interface } from '../host/netlink.ts';
import { Board, type KernelAction, moment, nowMicros, phase, windowState, word } from './board.ts';
import { type Cause, causeNamed, causeNumber, levels, type ZeroizeLevel } from './causes.ts';
import { outcomeOf, type ZeroizeOutcome } from './outcome.ts';
import { PlannedFlaps } from './planned-flaps.ts';
import { type StagePlan, Stages } from './stages.ts';
import type { WatcherEvent } from './watch.ts';
import { defaultSysfs, missing, watchedInterfaces } from './watched.ts';
import type { WatcherInput } from './watcher.ts';

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
  | {
      readonly kind: 'window-closed';
      readonly why: string;
      /** `limit`: more planned flaps within an hour than one interface may have. `zeroized`: told after the zeroize. */
      readonly because: WindowEnd;
      readonly window: MaintenanceWindow;
    };

export type WindowEnd = 'operator' | 'expired' | 'limit' | 'zeroized';

export interface MaintenanceWindow {
  readonly interfaces: readonly string[];
  readonly reason: string;
  readonly opened: string;
  readonly seconds: number;
  readonly flaps: number;
}

/** How long a watcher may take to end: it may be in its TPM stage. One that is lost is not waited for as long. */
const longestEndMilliseconds = { watching: 10_000, lost: 500 } as const;

export class Interlock implements AsyncDisposable {
  readonly #options: InterlockOptions;
  readonly #board = new Board();
  readonly #wakeup: number;
  readonly #watched: Interface[];
  readonly #worker: Worker;
  readonly #beat: NodeJS.Timeout;
  readonly #planned = new PlannedFlaps(() => this.#board.now());
  #window: MaintenanceWindow | undefined;
  #reported = false;
  #stopped = false;
  #first = false;
  #lost = false;

  private constructor(options: InterlockOptions) {
    this.#options = options;
    const { sysfs = defaultSysfs } = options;
    this.#watched = watchedInterfaces(options.interfaces, sysfs);
    this.#watched.forEach((link, position) => {
      this.#board.watch(position, link);
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
        if (event.kind === 'planned-flap') interlock.#countPlanned(event.interface, event.flaps);
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

  /**
   * Opens a maintenance window.
   * @throws Failure `window-open` when one is open; `interface-missing`; `window-refused` beyond the hourly limit;
   *   `nothing-watched`; `zeroized`.
   */
  openWindow(request: {
    readonly interfaces: readonly string[];
    readonly seconds: number;
    readonly flaps: number;
    readonly reason: string;
  }): MaintenanceWindow {
    const { words } = this.#board;
    if (Atomics.load(words, word.phase) !== phase.armed) throw zeroizedFailure('A maintenance window');
    if (this.#watched.length === 0) {
      throw new Failure(
        'nothing-watched',
        'No interface is watched, so no flap needs a maintenance window.',
        {
          remedy: 'Name the data interfaces in node.interfaces, or with -I.',
        },
      );
    }
    if (this.#window !== undefined || Atomics.load(words, word.window) !== windowState.closed) {
      const reason = this.#window?.reason ?? 'the last one is just being closed';
      throw new Failure('window-open', `A maintenance window is open already: ${reason}.`, {
        remedy: 'End it with `esoteric-appliance maintenance end`, then begin the new one.',
      });
    }
    const names =
      request.interfaces.length === 0 ? this.#watched.map((link) => link.name) : request.interfaces;
    const mask = names.reduce((bits, name) => bits | (1 << this.#positionOf(name)), 0);
    for (const name of names) {
      if (this.#planned.recent(name) >= this.#options.plannedFlapsPerHour) {
        throw new Failure(
          'window-refused',
          `${name} has had ${this.#options.plannedFlapsPerHour} planned flaps within an hour, which is the limit.`,
          { remedy: 'Wait until the hour has passed, or raise interlock.planned_flaps_per_hour.' },
        );
      }
    }
    // One beyond the hourly limit ends the window; the watcher allows no more, however busy this thread is.
    const { plannedFlapsPerHour: limit } = this.#options;
    const allowance = Math.min(...names.map((name) => limit + 1 - this.#planned.recent(name)));
    Atomics.store(words, word.windowFlapsLeft, Math.min(request.flaps, allowance));
    Atomics.store(words, word.windowMask, mask);
    Atomics.store(words, word.windowUntil, this.#board.now() + request.seconds * 1000);
    Atomics.store(words, word.window, windowState.open);
    this.#window = {
      interfaces: names,
      reason: request.reason,
      seconds: request.seconds,
      flaps: request.flaps,
      opened: new Date().toISOString(),
    };
    return this.#window;
  }

  /** Closes the window now; an interface that fell in it and has not come back then counts as flapped. */
  closeWindow(why: string, because: WindowEnd = 'operator'): MaintenanceWindow {
    if (this.#window === undefined) {
      throw new Failure('window-closed', 'No maintenance window is open.');
    }
    const { words } = this.#board;
    Atomics.compareExchange(words, word.window, windowState.open, windowState.closing);
    this.#wake();
    return this.#windowEnded(why, because);
  }

  get window(): MaintenanceWindow | undefined {
    return this.#window;
  }

  /** Planned flaps of an earlier process, `milliseconds` ago: they count for the rest of their hour. */
  remember(name: string, flaps: number, milliseconds: number): void {
    this.#planned.remember(name, flaps, milliseconds);
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
    window: (MaintenanceWindow & { secondsLeft: number; flapsLeft: number }) | null;
    armedAtMicros: number;
    /** The watcher's thread runs before all ordinary ones. */
    realTime: boolean;
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
      window:
        this.#window === undefined
          ? null
          : {
              ...this.#window,
              secondsLeft: Math.max(0, -this.#board.since(word.windowUntil) / 1000),
              flapsLeft: Atomics.load(words, word.windowFlapsLeft),
            },
      armedAtMicros: Math.round(moments[moment.armed] ?? 0),
      realTime: this.#first,
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
    Atomics.store(words, word.mainBeat, this.#board.now());
    const current = Atomics.load(words, word.phase);
    const watching = current === phase.armed; // What a zeroize ends is told with it.
    if (this.#window !== undefined && watching && Atomics.load(words, word.window) === windowState.closed)
      this.#windowEnded('it expired', 'expired');
    const silent = this.#board.since(word.watcherBeat) > this.#options.heartbeatMilliseconds;
    if (silent && (current === phase.armed || current === phase.zeroizing)) this.#watcherLost();
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
    if (this.#window !== undefined) this.closeWindow('the node was zeroized', 'zeroized');
  }

  #positionOf(name: string): number {
    const position = this.#watched.findIndex((link) => link.name === name);
    if (position === -1) throw missing(name, this.#watched);
    return position;
  }

  /** The limit ends the window: what flaps next is unplanned. */
  #countPlanned(name: string, flaps: number): void {
    this.#planned.add(name, flaps);
    if (this.#planned.recent(name) > this.#options.plannedFlapsPerHour && this.#window !== undefined) {
      this.closeWindow(
        `${name} had more than ${this.#options.plannedFlapsPerHour} planned flaps within an hour`,
        'limit',
      );
    }
  }

  #windowEnded(why: string, because: WindowEnd): MaintenanceWindow {
    const window = this.#window;
    if (window === undefined) throw new Failure('window-closed', 'No maintenance window is open.');
    this.#window = undefined;
    this.#options.onEvent({ kind: 'window-closed', why, because, window });
    return window;
  }
}
