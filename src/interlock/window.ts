// The maintenance window as the main thread opens and closes it, through the words of the board on which the watcher decides, and
// the limit of planned flaps within an hour.
import { Failure, zeroizedFailure } from '../host/failure.ts';
import type { Interface } from '../host/netlink.ts';
import { type Board, phase, windowState, word } from './board.ts';
import { PlannedFlaps } from './planned-flaps.ts';

export interface MaintenanceWindow {
  readonly interfaces: readonly string[];
  readonly reason: string;
  readonly opened: string;
  readonly seconds: number;
  readonly flaps: number;
}

export type WindowRequest = Omit<MaintenanceWindow, 'opened'>;

export interface OpenedWindow extends MaintenanceWindow {
  /** How many of its flaps the hourly limit allows; the next one ends the window. */
  readonly flapsThisHour: number;
}

export type WindowEnd = 'operator' | 'expired' | 'limit' | 'zeroized';

export interface WindowClosed {
  readonly kind: 'window-closed';
  readonly why: string;
  /** `limit`: more planned flaps within an hour than one interface may have. `zeroized`: told after the zeroize. */
  readonly because: WindowEnd;
  readonly window: MaintenanceWindow;
}

export interface WindowsOptions {
  readonly board: Board;
  /** Grows when an interface appears. */
  readonly watched: readonly Interface[];
  readonly plannedFlapsPerHour: number;
  /** Has the watcher look at the board. */
  readonly wake: () => void;
  readonly onClosed: (event: WindowClosed) => void;
}

export class Windows {
  readonly #options: WindowsOptions;
  readonly #board: Board;
  readonly #watched: readonly Interface[];
  readonly #planned: PlannedFlaps;
  #window: MaintenanceWindow | undefined;

  constructor(options: WindowsOptions) {
    this.#options = options;
    this.#board = options.board;
    this.#watched = options.watched;
    this.#planned = new PlannedFlaps(() => this.#board.now());
  }

  /**
   * Opens a maintenance window.
   * @throws Failure `window-open` when one is open; `interface-missing`; `window-refused` beyond the hourly limit;
   *   `nothing-watched`; `zeroized`.
   */
  open(request: WindowRequest): OpenedWindow {
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
      request.interfaces.length === 0
        ? this.#watched.map((link) => link.name)
        : [...new Set(request.interfaces)];
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
    return { ...this.#window, flapsThisHour: Math.min(request.flaps, allowance - 1) };
  }

  /** Closes the window now; an interface that fell in it and has not come back then counts as flapped. */
  close(why: string, because: WindowEnd = 'operator'): MaintenanceWindow {
    if (this.#window === undefined) {
      throw new Failure('window-closed', 'No maintenance window is open.');
    }
    const { words } = this.#board;
    Atomics.compareExchange(words, word.window, windowState.open, windowState.closing);
    this.#options.wake();
    return this.#ended(why, because);
  }

  get window(): MaintenanceWindow | undefined {
    return this.#window;
  }

  status(): (MaintenanceWindow & { secondsLeft: number; flapsLeft: number }) | null {
    return this.#window === undefined
      ? null
      : {
          ...this.#window,
          secondsLeft: Math.max(0, -this.#board.since(word.windowUntil) / 1000),
          flapsLeft: Atomics.load(this.#board.words, word.windowFlapsLeft),
        };
  }

  /** Planned flaps of an earlier process, `milliseconds` ago: they count for the rest of their hour. */
  remember(name: string, flaps: number, milliseconds: number): void {
    this.#planned.remember(name, flaps, milliseconds);
  }

  /** The limit ends the window: what flaps next is unplanned. */
  countPlanned(name: string, flaps: number): void {
    this.#planned.add(name, flaps);
    if (this.#planned.recent(name) > this.#options.plannedFlapsPerHour && this.#window !== undefined) {
      this.close(
        `${name} had more than ${this.#options.plannedFlapsPerHour} planned flaps within an hour`,
        'limit',
      );
    }
  }

  /** Tells of a window that the watcher has closed. What a zeroize ends is told with it. */
  tellExpired(): void {
    const { words } = this.#board;
    const watching = Atomics.load(words, word.phase) === phase.armed;
    if (this.#window !== undefined && watching && Atomics.load(words, word.window) === windowState.closed)
      this.#ended('it expired', 'expired');
  }

  #positionOf(name: string): number {
    const position = this.#watched.findIndex((link) => link.name === name);
    if (position === -1) {
      throw new Failure('interface-missing', `"${name}" is not a watched interface.`, {
        kept: 'No window was opened: every flap counts, as before.',
        remedy: `Name one of: ${this.#watched.map((link) => link.name).join(', ')}.`,
      });
    }
    return position;
  }

  #ended(why: string, because: WindowEnd): MaintenanceWindow {
    const window = this.#window;
    if (window === undefined) throw new Failure('window-closed', 'No maintenance window is open.');
    this.#window = undefined;
    this.#options.onClosed({ kind: 'window-closed', why, because, window });
    return window;
  }
}
