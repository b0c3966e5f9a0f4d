// Whose block is generated next: first come, first served, and at most one block's worth of bytes in a turn of the event loop,
// so that no number of requests keeps the main thread from what else it owes (the heartbeat above all).

/** Most bytes generated in one turn of the event loop. */
export const turnLength = 64 << 10;

interface Waiter {
  readonly bytes: number;
  readonly go: () => void;
}

export class Turns {
  readonly #waiting: Waiter[] = [];
  #left = turnLength;
  #waitingBytes = 0;

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Asked for and not yet generated. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Grants `bytes` at once, where nobody waits and this turn of the event loop has as many left. */
  tryTake(bytes: number): boolean {
    if (this.#waiting.length > 0 || bytes > this.#left) return false;
    if (this.#left === turnLength) {
      setImmediate(() => {
        this.#left = turnLength;
      });
    }
    this.#left -= bytes;
    return true;
  }

  /** Resolves when `bytes` (at most `turnLength`) may be generated; the caller does so before it awaits anything else. */
  take(bytes: number): Promise<void> {
    return new Promise((go) => {
      this.#waitingBytes += bytes;
      if (this.#waiting.push({ bytes, go }) === 1) setImmediate(() => this.#turn());
    });
  }

  #turn(): void {
    let left = turnLength;
    for (let next = this.#waiting[0]; next !== undefined && next.bytes <= left; next = this.#waiting[0]) {
      left -= next.bytes;
      this.#waitingBytes -= next.bytes;
      this.#waiting.shift();
      next.go();
    }
    if (this.#waiting.length > 0) setImmediate(() => this.#turn());
  }
}
