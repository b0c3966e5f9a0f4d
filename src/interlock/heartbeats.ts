// How long each of the two threads was silent at most: a machine too busy for its limit shows before the node takes a thread for lost.

/** Of the one that is silent. */
export type BeatingThread = 'main' | 'watcher';

export interface LateBeat {
  readonly kind: 'late';
  readonly thread: BeatingThread;
  readonly milliseconds: number;
  /** After so many the thread is lost. */
  readonly limitMilliseconds: number;
}

/** Of one thread, how often it is told at most. */
const everyMilliseconds = 3_600_000;

export class Heartbeats {
  readonly #limit: number;
  readonly #longest: Record<BeatingThread, number> = { main: 0, watcher: 0 };
  readonly #told: Partial<Record<BeatingThread, number>> = {};

  /** `limitMilliseconds`: of silence, after which a thread is lost. */
  constructor(limitMilliseconds: number) {
    this.#limit = limitMilliseconds;
  }

  /** How long a thread has been silent, at `now` of any clock in milliseconds. @returns what is to be told: from half of the limit on. */
  silent(thread: BeatingThread, milliseconds: number, now: number): LateBeat | undefined {
    this.#longest[thread] = Math.max(this.#longest[thread], Math.round(milliseconds));
    const told = this.#told[thread];
    if (milliseconds * 2 < this.#limit || (told !== undefined && now - told < everyMilliseconds))
      return undefined;
    this.#told[thread] = now;
    return { kind: 'late', thread, milliseconds: Math.round(milliseconds), limitMilliseconds: this.#limit };
  }

  /** Milliseconds of silence: the longest of each since the start, and the limit. */
  status(): Record<BeatingThread | 'limit', number> {
    return { ...this.#longest, limit: this.#limit };
  }
}
