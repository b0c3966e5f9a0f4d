// The entropy pool: a collector thread, a conditioner and a DRBG behind one door, `read`. It gives nothing before its
// first full seed, nothing after a zeroize, and stops when noise has failed for as long as one seed may serve.
import { randomFillSync } from 'node:crypto';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { exitStatus, Failure, zeroizedFailure } from '../host/failure.ts';
import { noiseSources } from './catalogue.ts';
import { CollectorThread } from './collector-thread.ts';
import { bitsPerSeed, Conditioner } from './conditioning.ts';
import { type CreditPolicy, type SourceCredit, uncredited } from './credit.ts';
import { CtrDrbg, defaultReseedLimits, type ReseedLimits, seedLength } from './drbg.ts';
import { type InducedFailure, ringCapacity, type SampleRings } from './rings.ts';
import type { Availability, NoiseSource } from './source.ts';
import { type EntropyStatus, poolState, type SourceStatus } from './status.ts';

export interface PoolOptions {
  readonly arena: SecretArena;
  /** Names of sources; all that this machine has, unless told. */
  readonly sources?: readonly string[];
  /** Where disk timing keeps its (unlinked) file. */
  readonly directory: string;
  readonly policy: CreditPolicy;
  /** Microseconds that never go back. */
  readonly clock: () => number;
  /** After so much it reseeds as soon as it can; a minute or 2^14 requests (1 GiB) unless told. */
  readonly reseedAfter?: ReseedLimits;
  /** After so much without a reseed it stops. */
  readonly limits?: ReseedLimits;
}

const defaultReseedAfter: ReseedLimits = { requests: 2 ** 14, micros: 60_000_000 };
const leastLevel = 1024;
const pollMilliseconds = 2;
const reseedPollMilliseconds = 1000;

interface Member {
  readonly source: NoiseSource;
  readonly credit: SourceCredit;
  readonly availability: Availability;
}

export class EntropyPool implements AsyncDisposable {
  readonly #arena: SecretArena;
  readonly #members: readonly Member[];
  /** The available ones, in ring order. */
  readonly #collected: readonly Member[];
  readonly #collector: CollectorThread;
  readonly #system: SecretBuffer;
  readonly #rings: SampleRings;
  readonly #conditioner: Conditioner;
  readonly #drbg: CtrDrbg;
  readonly #reseedAfter: ReseedLimits;
  readonly #timer: NodeJS.Timeout;
  #paused: string | undefined;
  #stopping = false;
  #seeds = 0;
  #credited = 0;

  /**
   * Starts the collector thread and returns at once; `ready` waits for the first seed.
   * @throws Failure `source-unknown`; `entropy-uncredited` when the available sources could never fill a seed.
   */
  static async start(options: PoolOptions): Promise<EntropyPool> {
    const known = noiseSources(options.directory);
    const chosen = options.sources?.map((name) => named(known, name)) ?? known;
    const members = chosen.map((source) => ({
      source,
      credit: options.policy.get(source.name) ?? uncredited,
      availability: source.available(),
    }));
    const possible = members
      .filter(({ availability }) => availability.ok)
      .reduce((sum, { credit }) => sum + credit.credit * ringCapacity, 0);
    if (possible < bitsPerSeed) throw tooLittleCredit(possible);
    return new EntropyPool(options, members);
  }

  private constructor(options: PoolOptions, members: readonly Member[]) {
    const { arena } = options;
    this.#arena = arena;
    this.#members = members;
    this.#collected = members.filter(({ availability }) => availability.ok);
    this.#reseedAfter = options.reseedAfter ?? defaultReseedAfter;
    this.#system = arena.take(seedLength, 'OS generator output');
    this.#drbg = new CtrDrbg(arena, options.clock, options.limits ?? defaultReseedLimits);
    const credits = this.#collected.map(({ credit }) => credit.credit);
    this.#collector = new CollectorThread(arena, {
      sources: this.#collected.map(({ source, credit }) => ({
        name: source.name,
        expected: credit.expected,
      })),
      level: levelFor(credits),
      directory: options.directory,
    });
    this.#rings = this.#collector.rings;
    this.#conditioner = new Conditioner(arena, this.#rings, credits);
    this.#timer = setInterval(() => this.#tend(), reseedPollMilliseconds);
    this.#timer.unref();
  }

  /**
   * Resolves when the first seed is made: `bitsPerSeed` (448) credited bits conditioned into 384.
   * @throws Failure `entropy-not-ready` after `milliseconds`, `entropy-unhealthy`, `zeroized`.
   */
  async ready(milliseconds = 10_000): Promise<void> {
    const deadline = performance.now() + milliseconds;
    for (;;) {
      if (this.#arena.zeroized) throw zeroizedFailure('Random output');
      if (this.#seedIfDue()) return;
      if (this.#collector.lost !== undefined) throw this.#unhealthy();
      if (performance.now() >= deadline) throw this.#notReady();
      await new Promise((resolve) => setTimeout(resolve, pollMilliseconds));
    }
  }

  /**
   * Fills `out`, of any length, with output of the DRBG.
   * @throws Failure `entropy-not-ready` before the first seed, `entropy-unhealthy` when the last seed has served as long
   * as it may and no new one could be made, `zeroized`; `out` is then zero.
   */
  read(out: Uint8Array): void {
    try {
      if (this.#arena.zeroized) throw zeroizedFailure('Random output');
      if (this.#stopping) throw new Failure('entropy-stopped', 'The entropy pool has been stopped.');
      if (!this.#seedIfDue()) throw this.#notReady();
      if (!this.#drbg.fresh) throw this.#unhealthy();
      this.#drbg.generate(out);
    } catch (error) {
      out.fill(0);
      throw error instanceof Failure && error.code === 'drbg-exhausted' ? this.#unhealthy() : error;
    }
  }

  /** Stops collecting for a maintenance window; output goes on. No health test sees a gap. */
  pause(reason: string): void {
    this.#paused = reason;
    this.#rings.pause(true);
  }

  resume(): void {
    this.#paused = undefined;
    this.#rings.pause(false);
  }

  /** Tests a source anew from the beginning (SP 800-90B section 4.3, on-demand); the way back for an expelled one. */
  restart(name: string): void {
    this.#withIndex(name, (index) => this.#rings.restart(index));
  }

  /** Rehearses a failure: the source delivers this instead of its noise until called with undefined. */
  induce(name: string, failure: InducedFailure | undefined): void {
    this.#withIndex(name, (index) => this.#rings.induce(index, failure));
  }

  status(): EntropyStatus {
    const sources = this.#members.map((member) => this.#sourceStatus(member));
    return {
      state: poolState({
        zeroized: this.#arena.zeroized,
        stopped: this.#stopping,
        seeded: this.#seeds > 0,
        fresh: this.#seeds > 0 && this.#drbg.fresh,
        paused: this.#paused !== undefined,
        sources,
      }),
      ...(this.#paused === undefined ? {} : { pausedFor: this.#paused }),
      ...(this.#collector.lost === undefined ? {} : { why: this.#collector.lost }),
      sources,
      seeded: this.#seeds > 0,
      reseeds: Math.max(0, this.#seeds - 1),
      bytesOut: this.#drbg.bytesOut,
      credited: Math.floor(this.#credited),
    };
  }

  /** Ends the thread and wipes everything; resolves when nothing is left running. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    clearInterval(this.#timer);
    await this.#collector[Symbol.asyncDispose]();
    this.#drbg[Symbol.dispose]();
    this.#conditioner[Symbol.dispose]();
    this.#system[Symbol.dispose]();
  }

  /** Seeds or reseeds when it is time and there are samples for it. Returns whether there is a seed at all. */
  #seedIfDue(): boolean {
    const due =
      this.#seeds === 0 ||
      this.#drbg.age >= this.#reseedAfter.micros ||
      this.#drbg.requests >= this.#reseedAfter.requests;
    if (!due || this.#arena.zeroized) return this.#seeds > 0;
    const credited = this.#conditioner.seed((seed) => this.#applySeed(seed));
    if (credited > 0) {
      this.#seeds += 1;
      this.#credited += credited;
      this.#rings.markSeeded();
    }
    return this.#seeds > 0;
  }

  /** The operating system's generator goes in as personalization or additional input, and is never counted. */
  #applySeed(seed: SecretBuffer): void {
    const system = this.#system.bytes;
    randomFillSync(system);
    if (this.#seeds === 0) this.#drbg.instantiate(seed, system);
    else this.#drbg.reseed(seed, system);
    system.fill(0);
  }

  #tend(): void {
    try {
      this.#seedIfDue();
    } catch {
      // A zeroize in the middle; `read` and `status` say so.
    }
  }

  #sourceStatus(member: Member): SourceStatus {
    const { source, credit, availability } = member;
    const base = {
      name: source.name,
      family: source.family,
      physical: source.physical,
      credit: credit.credit,
    };
    if (!availability.ok) {
      const { why } = availability;
      return { ...base, state: 'unavailable', samples: 0, failures: 0, available: false, why };
    }
    const index = this.#collected.indexOf(member);
    const why = this.#collector.whyLost(source.name);
    return {
      ...base,
      state: this.#collector.lost === undefined ? this.#rings.state(index) : 'expelled',
      samples: this.#rings.samples(index),
      failures: this.#rings.failures(index),
      available: true,
      ...(why === undefined ? {} : { why }),
    };
  }

  #withIndex(name: string, use: (index: number) => void): void {
    const index = this.#collected.findIndex(({ source }) => source.name === name);
    if (index === -1)
      throw unknownSource(
        name,
        this.#collected.map(({ source }) => source.name),
      );
    use(index);
  }

  #notReady(): Failure {
    return new Failure('entropy-not-ready', 'The entropy pool has not been seeded yet.', {
      kept: 'Nothing has been given out.',
      remedy: 'Try again in a moment; `esoteric-appliance status` shows which noise sources are healthy.',
    });
  }

  #unhealthy(): Failure {
    const why = this.#collector.lost ?? 'the noise sources have delivered no new seed in time';
    return new Failure('entropy-unhealthy', `Random output has stopped: ${why}.`, {
      kept: 'Nothing has been given out beyond the reseed limit.',
      remedy: 'Look at the noise sources with `esoteric-appliance status`, then restart the node.',
    });
  }
}

/** Samples in each ring that make the next seed together, with a quarter to spare. */
function levelFor(credits: readonly number[]): number {
  const bits = credits.reduce((sum, credit) => sum + credit, 0);
  return Math.min(ringCapacity, Math.max(leastLevel, Math.ceil((1.25 * bitsPerSeed) / bits)));
}

function named(known: readonly NoiseSource[], name: string): NoiseSource {
  const source = known.find((candidate) => candidate.name === name);
  if (source === undefined)
    throw unknownSource(
      name,
      known.map((candidate) => candidate.name),
    );
  return source;
}

function unknownSource(name: string, known: readonly string[]): Failure {
  return new Failure('source-unknown', `There is no noise source "${name}".`, {
    remedy: `Use one of ${known.join(', ')}.`,
    status: exitStatus.usage,
  });
}

function tooLittleCredit(possible: number): Failure {
  return new Failure(
    'entropy-uncredited',
    `The noise sources are credited ${Math.floor(possible)} bits for full rings; a seed needs ${bitsPerSeed}.`,
    { remedy: 'Choose more sources, or assess them and credit them in policies/entropy.toml.' },
  );
}
