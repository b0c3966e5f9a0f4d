// The lookout: looks from time to time at what may become a cause, asks the policy what it is worth, and has it struck or told.
// It decides nothing itself (src/interlock/evaluate.ts), and keeps what was decided.
import { bootMilliseconds, utcNow } from '../host/time.ts';
import type { Cause } from '../interlock/causes.ts';
import { evaluate, nothingSeen, type Rule, type Verdict } from '../interlock/evaluate.ts';

/** Values by cause, as `Observation` has them. */
export type Seen = Partial<Record<Cause, number>>;

export interface Probe {
  readonly name: string;
  readonly everyMilliseconds: number;
  /** A look that fails says nothing about its causes; that it failed is told once. */
  readonly look: () => Seen | Promise<Seen>;
}

export interface LookoutOptions {
  readonly probes: readonly Probe[];
  readonly rule: (cause: Cause) => Rule;
  readonly strike: (cause: Cause) => void;
  readonly tell: (cause: Cause, value: number) => void;
  readonly trouble: (probe: string, error: unknown) => void;
  readonly clock?: () => number;
}

export interface Decided {
  /** RFC 3339. */
  readonly time: string;
  readonly cause: Cause;
  readonly value: number;
  readonly verdict: Exclude<Verdict, 'nothing'>;
}

const decisionsKept = 100;

export class Lookout implements Disposable {
  readonly #options: LookoutOptions;
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #failing = new Set<string>();
  readonly #decided: Decided[] = [];
  #standing = nothingSeen;
  #ended = false;

  constructor(options: LookoutOptions) {
    this.#options = options;
    for (const probe of options.probes) this.#later(probe);
  }

  /** Decisions that were taken, the latest last. */
  get decided(): readonly Decided[] {
    return this.#decided;
  }

  /** What somebody has seen of a cause. */
  observe(cause: Cause, value: number): Verdict {
    const { rule, strike, tell, clock = bootMilliseconds } = this.#options;
    const { verdict, standing } = evaluate(rule(cause), this.#standing, { cause, value, at: clock() });
    this.#standing = standing;
    if (verdict === 'nothing') return verdict;
    this.#decided.push({ time: utcNow(), cause, value, verdict });
    if (this.#decided.length > decisionsKept) this.#decided.shift();
    if (verdict === 'strike') strike(cause);
    if (verdict === 'tell') tell(cause, value);
    return verdict;
  }

  [Symbol.dispose](): void {
    this.#ended = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }

  /** One look after the other: a slow one is not overtaken by the next. */
  #later(probe: Probe): void {
    const timer = setTimeout(() => void this.#look(probe), probe.everyMilliseconds);
    this.#timers.set(probe.name, timer.unref());
  }

  async #look(probe: Probe): Promise<void> {
    try {
      const seen = await probe.look();
      if (this.#ended) return;
      this.#failing.delete(probe.name);
      for (const [cause, value] of Object.entries(seen)) this.observe(cause as Cause, value);
    } catch (error) {
      if (!this.#ended && !this.#failing.has(probe.name)) this.#options.trouble(probe.name, error);
      this.#failing.add(probe.name);
    }
    if (!this.#ended) this.#later(probe);
  }
}
