// Who makes a running node collect: operators, the interlock, causes that were told, alerts by their severity, the timer. One bundle
// after the other; that of a zeroize goes first.
import { type Alert, atLeast, type Severity } from '../alerts/alert.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { bootMilliseconds } from '../host/time.ts';
import type { Announcer } from './announce.ts';
import type { Config } from './config.ts';
import type { BundleMade, BundleRequest } from './evidence.ts';
import type { StateLayout } from './state-layout.ts';

export interface CollectingOptions {
  readonly config: Config;
  readonly layout: StateLayout;
  readonly announcer: Announcer;
  readonly make: (request: BundleRequest, onProgress: (step: string) => void) => Promise<BundleMade>;
  /** Milliseconds since 1970. */
  readonly clock?: () => number;
}

/** A timer of Node's holds 24 days; and after a sleep of the machine it should not come late by more than this. */
const longestWait = 60_000;

export class Collecting implements AsyncDisposable {
  readonly #options: CollectingOptions;
  readonly #waiting: (() => void)[] = [];
  readonly #ended = new AbortController();
  #running: Promise<unknown> | undefined;
  /** By CLOCK_BOOTTIME. */
  #lastByAlert = Number.NEGATIVE_INFINITY;
  /** Raised before the node was up. */
  #early: Pick<Alert, 'key' | 'severity'> | undefined;
  #isUp = false;
  #timer: NodeJS.Timeout | undefined;
  #lastByTimer: number | undefined;

  constructor(options: CollectingOptions) {
    this.#options = options;
    options.announcer.onAlert((alert) => this.#alerted(alert));
  }

  /** The node is up: alerts and the timer are heeded from now on. */
  start(): void {
    this.#isUp = true;
    if (this.#early !== undefined) this.#alerted(this.#early);
    if (this.#options.config.forensics.every_seconds > 0) this.#later();
  }

  /** Waits for its turn. @throws as `makeBundle`; Failure `node-stopping`. */
  async collect(request: BundleRequest, onProgress: (step: string) => void = () => {}): Promise<BundleMade> {
    return await this.alone(() => this.#options.make(request, onProgress), {
      first: request.trigger === 'zeroize',
      onWait: () => onProgress('waiting: another bundle is being made'),
    });
  }

  /** Does the work while no bundle is being made; `first`: before all that waits. @throws what the work throws; Failure `node-stopping`. */
  async alone<T>(
    work: () => Promise<T>,
    { first = false, onWait = () => {} }: { readonly first?: boolean; readonly onWait?: () => void } = {},
  ): Promise<T> {
    if (this.#running !== undefined && !this.#ended.signal.aborted) {
      onWait();
      const { promise, resolve } = Promise.withResolvers<void>();
      if (first) this.#waiting.unshift(resolve);
      else this.#waiting.push(resolve);
      await promise;
    }
    if (this.#ended.signal.aborted) {
      this.#waiting.shift()?.();
      throw new Failure('node-stopping', 'No bundle was made: the node is stopping.', {
        remedy: 'Repeat the command once it has stopped.',
      });
    }
    const working = work();
    this.#running = working;
    try {
      return await working;
    } finally {
      // Whoever is next takes over before anybody else can begin.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running = undefined;
      else next();
    }
  }

  /** What is being made is finished; what waits is refused. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    clearTimeout(this.#timer);
    await this.#running?.catch(() => {});
  }

  #alerted(alert: Pick<Alert, 'key' | 'severity'>): void {
    const { on_severity: least, pause_seconds: pause } = this.#options.config.forensics;
    if (least === '' || !atLeast(alert.severity, least as Severity)) return;
    if (!this.#isUp) {
      this.#early ??= alert;
      return;
    }
    const since = (bootMilliseconds() - this.#lastByAlert) / 1000;
    if (since < pause) {
      this.#options.announcer.note(
        'notice',
        `The alert ${alert.key} gets no bundle of its own: one was begun ${Math.round(since)} s ago.`,
      );
      return;
    }
    this.#lastByAlert = bootMilliseconds();
    const { key, severity } = alert;
    void this.#byItself({ reason: `alert: ${key}`, trigger: 'alert', severity });
  }

  async #byItself(request: BundleRequest): Promise<void> {
    const { announcer } = this.#options;
    try {
      const { archive } = await this.collect(request);
      announcer.event('BUNDLE_MADE', `Forensic bundle ${archive} was made (${request.reason}).`, { archive });
    } catch (error) {
      const why = reasonOf(error);
      if (this.#ended.signal.aborted) return;
      announcer.event('BUNDLE_FAILED', `No bundle was made (${request.reason}): ${why}`, { why });
    }
  }

  /** A period after the last time, whichever run of the node that was in; after a clock that was set back, after now. */
  #later(): void {
    const { config, layout, clock = Date.now } = this.#options;
    const period = config.forensics.every_seconds * 1000;
    const now = clock();
    this.#lastByTimer ??= Number(readIfPresent(layout.collectedByTimer) ?? Number.NaN);
    if (!(this.#lastByTimer <= now)) this.#note(now);
    const wait = Math.max(0, (this.#lastByTimer ?? now) + period - now);
    const look = () => (wait > longestWait ? this.#later() : void this.#byTimer());
    this.#timer = setTimeout(look, Math.min(wait, longestWait)).unref();
  }

  async #byTimer(): Promise<void> {
    const { clock = Date.now } = this.#options;
    this.#note(clock());
    await this.#byItself({ reason: 'timer', trigger: 'timer' });
    if (!this.#ended.signal.aborted) this.#later();
  }

  #note(time: number): void {
    const { layout, announcer } = this.#options;
    this.#lastByTimer = time;
    try {
      writeDurably(layout.collectedByTimer, `${time}\n`);
    } catch (error) {
      announcer.note('warning', `The time of the timer's bundle could not be kept: ${reasonOf(error)}`);
    }
  }
}
