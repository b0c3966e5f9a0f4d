// The deliverer: takes what is due from the outbox to its channel and records how it went. Each channel has a lane of its own,
// so one that hangs delays only itself.
import { setTimeout as delay } from 'node:timers/promises';
import { Failure, reasonOf } from '../host/failure.ts';
import type { Severity } from './alert.ts';
import type { Channel } from './channel.ts';
import { DeliveryFailure } from './delivery-failure.ts';
import type { JobState, Outbox, QueuedJob } from './outbox.ts';

/** What became of one attempt, for logs. `channel` is an identifier, empty for a bundle. */
export interface DeliveryEvent {
  readonly kind: QueuedJob['kind'];
  readonly key: string;
  readonly channel: string;
  /** `unrecorded`: the attempt was made, but the outbox could not take its outcome yet. */
  readonly state: JobState | 'unrecorded';
  readonly error?: string;
  /** Of an alert. */
  readonly severity?: Severity;
}

export interface DelivererOptions {
  readonly outbox: Outbox;
  /** By identifier: a Map, or anything that opens on demand. */
  readonly channels: { get(id: string): Channel | undefined };
  /**
   * Uploads a bundle and reads it back; calls `moved` whenever some of it has got through. Rejects with anything; retried unless it is
   * a permanent DeliveryFailure.
   */
  readonly bundle: (payload: unknown, signal: AbortSignal, key: string, moved: () => void) => Promise<void>;
  /** Sends under way at once in each lane. Default 4. */
  readonly concurrency?: number;
  /** Of one alert to one channel. Default 10,000. */
  readonly timeoutMilliseconds?: number;
  /** Of one bundle, without any of it moving: a large one takes hours over a thin line. Default 1,800,000. */
  readonly bundleStallMilliseconds?: number;
  /** Between looks into the outbox in `loop`. Default 200. */
  readonly pollMilliseconds?: number;
  /** For what is under way when `loop` is told to stop. Default 2000. */
  readonly graceMilliseconds?: number;
  /** Milliseconds since the epoch. Default Date.now. */
  readonly now?: () => number;
  readonly report?: (event: DeliveryEvent) => void;
}

export class Deliverer {
  readonly #options: DelivererOptions;
  readonly #stop = new AbortController();
  /** By job id; in the way of sending it twice at once. */
  readonly #underWay = new Map<number, { lane: string; ended: Promise<boolean> }>();
  /** Outcomes that the outbox refused to record (a full disk): recorded before the job may be sent again. */
  readonly #unrecorded = new Map<number, () => JobState>();

  constructor(options: DelivererOptions) {
    this.#options = options;
  }

  /** Tries what is due now once, and what comes free in its lanes, and waits for all of it. Returns how many were delivered. */
  async runOnce(): Promise<number> {
    const tried = new Set<number>();
    let delivered = 0;
    for (;;) {
      const started = this.#start(this.#due().filter(({ id }) => !tried.has(id)));
      if (started.length === 0) return delivered;
      for (const { id } of started) tried.add(id);
      const outcomes = await Promise.all(started.map(({ ended }) => ended));
      delivered += outcomes.filter(Boolean).length;
    }
  }

  /**
   * Delivers until `signal` aborts, then gives what is under way a moment to be acknowledged and abandons the rest, which stays
   * queued. An outbox that fails for a while is reported by `onTrouble` and tried again.
   */
  async loop(signal: AbortSignal, onTrouble: (reason: string) => void = () => {}): Promise<void> {
    const poll = this.#options.pollMilliseconds ?? 200;
    while (!signal.aborted) {
      try {
        this.#start(this.#due());
      } catch (error) {
        onTrouble(reasonOf(error));
      }
      await delay(poll, undefined, { signal }).catch(() => {});
    }
    const ended = Promise.all([...this.#underWay.values()].map((attempt) => attempt.ended));
    const grace = AbortSignal.timeout(this.#options.graceMilliseconds ?? 2000);
    await orAbort(ended, grace).catch(() => {});
    this.#stop.abort();
    await ended;
  }

  /** Whether it is being sent, or its outcome not recorded yet. */
  isUnderWay(id: number): boolean {
    return this.#underWay.has(id) || this.#unrecorded.has(id);
  }

  #due(): QueuedJob[] {
    for (const [id, record] of this.#unrecorded) {
      try {
        record();
        this.#unrecorded.delete(id);
      } catch {
        // Still full: the others go on meanwhile.
      }
    }
    return this.#options.outbox.due(this.#now()).filter(({ id }) => !this.isUnderWay(id));
  }

  /** Starts as many of `jobs` as their lanes have room for. */
  #start(jobs: QueuedJob[]): { id: number; ended: Promise<boolean> }[] {
    const started: { id: number; ended: Promise<boolean> }[] = [];
    for (const job of jobs) {
      const lane = laneOf(job);
      const busy = [...this.#underWay.values()].filter((other) => other.lane === lane).length;
      if (busy >= (this.#options.concurrency ?? 4)) continue;
      const ended = this.#attempt(job).finally(() => this.#underWay.delete(job.id));
      this.#underWay.set(job.id, { lane, ended });
      started.push({ id: job.id, ended });
    }
    return started;
  }

  /** One send and its record. Never rejects; true when delivered. */
  async #attempt(job: QueuedJob): Promise<boolean> {
    const limit =
      job.kind === 'alert'
        ? (this.#options.timeoutMilliseconds ?? 10_000)
        : (this.#options.bundleStallMilliseconds ?? 1_800_000);
    using patience = new Patience(limit);
    const signal = AbortSignal.any([this.#stop.signal, patience.signal]);
    try {
      await orAbort(
        this.#send(job, signal, () => patience.renew()),
        signal,
      );
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#recordFailure(job, error, signal.aborted ? limit : undefined);
      return false;
    }
    this.#record(job, undefined, () => {
      this.#options.outbox.delivered(job.id);
      return 'delivered';
    });
    return true;
  }

  async #send(job: QueuedJob, signal: AbortSignal, moved: () => void): Promise<void> {
    if (job.kind === 'bundle') return this.#options.bundle(job.payload, signal, job.key, moved);
    const channel = this.#options.channels.get(job.channel);
    if (channel === undefined) {
      throw DeliveryFailure.refused(`The channel ${job.channel} is no longer configured.`);
    }
    return channel.send(job.alert, signal);
  }

  #recordFailure(job: QueuedJob, error: unknown, timedOutAfter: number | undefined): void {
    const { permanent, retryAfterMilliseconds } =
      error instanceof DeliveryFailure ? error : { permanent: false, retryAfterMilliseconds: 0 };
    const sentence =
      timedOutAfter === undefined
        ? sentenceOf(error)
        : `${job.kind === 'alert' ? 'Nothing acknowledged it' : 'None of it moved'} within ${timedOutAfter} ms.`;
    const record = (): JobState =>
      this.#options.outbox.failed(job.id, sentence, permanent, retryAfterMilliseconds);
    this.#record(job, sentence, record);
  }

  #record(job: QueuedJob, error: string | undefined, record: () => JobState): void {
    const about =
      job.kind === 'alert'
        ? { kind: job.kind, key: job.key, channel: job.channel, severity: job.alert.severity }
        : { kind: job.kind, key: job.key, channel: '' };
    try {
      const state = record();
      this.#report({ ...about, state, ...(error === undefined ? {} : { error }) });
    } catch (trouble) {
      this.#unrecorded.set(job.id, record);
      this.#report({ ...about, state: 'unrecorded', error: reasonOf(trouble) });
    }
  }

  #report(event: DeliveryEvent): void {
    try {
      this.#options.report?.(event);
    } catch {
      // A log that fails must not stop deliveries.
    }
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }
}

const laneOf = (job: QueuedJob): string => (job.kind === 'alert' ? `alert ${job.channel}` : 'bundle');

/** A signal that aborts after a time, counted anew whenever it is renewed. */
class Patience implements Disposable {
  readonly #over = new AbortController();
  readonly #timer: NodeJS.Timeout;

  constructor(milliseconds: number) {
    this.#timer = setTimeout(() => this.#over.abort(), milliseconds);
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  renew(): void {
    this.#timer.refresh();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** Settles with `work`, or rejects when `signal` aborts, so that nothing that ignores it can block a lane. */
async function orAbort(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abandon = (): void => reject(signal.reason);
  signal.addEventListener('abort', abandon, { once: true });
  try {
    await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', abandon);
  }
}

/** What a bundle's uploader says is ours only when it is a Failure; anything else may quote an address with credentials. */
const sentenceOf = (error: unknown): string =>
  error instanceof Failure
    ? error.message
    : `It failed unexpectedly (${error instanceof Error ? error.name : 'unknown error'}).`;
