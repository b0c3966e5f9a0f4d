// How many planned flaps each interface has had within the last hour.

const hour = 3_600_000;
/** An earlier process cannot make this one count without end. */
const mostRemembered = 1000;

export class PlannedFlaps {
  readonly #now: () => number;
  /** Times, by interface. */
  readonly #times = new Map<string, number[]>();

  /** `now`: milliseconds on a clock that nobody sets. */
  constructor(now: () => number) {
    this.#now = now;
  }

  add(name: string, flaps: number): void {
    this.#push(name, flaps, this.#now());
  }

  /** Of an earlier process, `milliseconds` ago: they count for the rest of their hour. */
  remember(name: string, flaps: number, milliseconds: number): void {
    this.#push(name, Math.min(flaps, mostRemembered), this.#now() - milliseconds);
  }

  recent(name: string): number {
    const recent = (this.#times.get(name) ?? []).filter((at) => at > this.#now() - hour);
    this.#times.set(name, recent);
    return recent.length;
  }

  #push(name: string, flaps: number, at: number): void {
    this.#times.set(name, [...(this.#times.get(name) ?? []), ...Array.from({ length: flaps }, () => at)]);
  }
}
