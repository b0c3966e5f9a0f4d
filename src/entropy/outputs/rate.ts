// So many bytes a second and no more: a token bucket that holds a tenth of a second's worth.
export class Rate {
  readonly #perMillisecond: number;
  readonly #most: number;
  readonly #clock: () => number;
  #tokens: number;
  #at: number;

  /** `clock` counts milliseconds. */
  constructor(bytesPerSecond: number, clock: () => number = () => performance.now()) {
    this.#perMillisecond = bytesPerSecond / 1000;
    this.#most = Math.max(1, bytesPerSecond / 10);
    this.#tokens = this.#most;
    this.#clock = clock;
    this.#at = clock();
  }

  /** Most bytes of one piece. */
  get piece(): number {
    return Math.max(1, Math.floor(this.#most));
  }

  /** Milliseconds until `bytes` (at most `piece`) may go; takes them where that is 0. */
  take(bytes: number): number {
    const now = this.#clock();
    this.#tokens = Math.min(this.#most, this.#tokens + (now - this.#at) * this.#perMillisecond);
    this.#at = now;
    const missing = bytes - this.#tokens;
    if (missing > 1e-9) return missing / this.#perMillisecond;
    this.#tokens -= bytes;
    return 0;
  }
}
