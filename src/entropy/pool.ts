// The entropy pool: collector threads, a conditioner and a DRBG behind one door, `read`. It gives nothing before its first
// full seed, nothing after a zeroize, and stops when noise has failed for as long as one seed may serve.
import { randomFillSync } from 'node:crypto';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { Failure, zeroizedFailure } from '../host/failure.ts';
import type { AssessmentRecord } from './assessment/record.ts';
import { Conditioner } from './conditioning.ts';
import { Consumer, type Root } from './consumer.ts';
import { CtrDrbg, defaultReseedLimits, type ReseedLimits, seedLength } from './drbg.ts';
import { Lanes, type Patience } from './lanes.ts';
import {
  assessedAtStart,
  type Choice,
  chooseMembers,
  creditOf,
  expectedOf,
  laneSuffices,
  levelsOf,
  type Member,
  possibleCredit,
  unknownSource,
} from './members.ts';
import { notReady, outlasted, uncredited, unhealthy } from './no-seed.ts';
import type { InducedFailure } from './rehearsal.ts';
import type { SeedFile } from './seed-file.ts';
import { sourceStatus } from './source-status.ts';
import { type EntropyStatus, type PoolState, poolState } from './status.ts';

export interface PoolOptions extends Choice {
  readonly arena: SecretArena;
  /** Microseconds that never go back. */
  readonly clock: () => number;
  /** After so much it reseeds as soon as it can; a minute or 2^14 requests (1 GiB) unless told. */
  readonly reseedAfter?: ReseedLimits;
  /** After so much without a reseed it stops. */
  readonly limits?: ReseedLimits;
  /** Mixed into the first seed, counted as nothing. */
  readonly seedFile?: SeedFile;
  /** Hears of each change of state, and of each source that fails. */
  readonly onState?: (state: PoolState, status: EntropyStatus) => void;
  readonly onSourceFailed?: (name: string, why: string) => void;
  /** For tests. */
  readonly patience?: Patience;
}

const defaultReseedAfter: ReseedLimits = { requests: 2 ** 14, micros: 60_000_000 };
const requestLength = 65_536;
const pollMilliseconds = 2;
const tendMilliseconds = 1000;
/** Quick sources that have made no seed by then get help. */
const patientAfterMilliseconds = 750;

export class EntropyPool implements AsyncDisposable {
  readonly #options: PoolOptions;
  readonly #arena: SecretArena;
  readonly #members: readonly Member[];
  /** The available ones, in ring order. */
  readonly #collected: readonly Member[];
  readonly #lanes: Lanes;
  readonly #system: SecretBuffer;
  readonly #conditioner: Conditioner;
  readonly #drbg: CtrDrbg;
  readonly #reseedAfter: ReseedLimits;
  readonly #limits: ReseedLimits;
  readonly #timer: NodeJS.Timeout;
  readonly #root: Root;
  readonly #consumers = new Set<Consumer>();
  readonly #own: Consumer;
  #paused: string | undefined;
  #stopping = false;
  #seeds = 0;
  #credited = 0;
  #requests = 0;
  #bytesOut = 0;
  #lastState: PoolState = 'seeding';

  /**
   * Starts the collector threads and returns at once; `ready` waits for the first seed.
   * @throws Failure `source-unknown`; `entropy-uncredited` when the available sources could never fill a seed.
   */
  static async start(options: PoolOptions): Promise<EntropyPool> {
    return new EntropyPool(options, chooseMembers(options));
  }

  private constructor(options: PoolOptions, members: readonly Member[]) {
    const { arena } = options;
    this.#options = options;
    this.#arena = arena;
    this.#members = members;
    this.#collected = members.filter(({ availability }) => availability.ok);
    this.#reseedAfter = options.reseedAfter ?? defaultReseedAfter;
    this.#limits = options.limits ?? defaultReseedLimits;
    this.#system = arena.take(seedLength, 'OS generator output');
    this.#drbg = new CtrDrbg(arena, options.clock, { ...this.#limits, requests: Number.POSITIVE_INFINITY });
    const levels = levelsOf(this.#collected);
    this.#lanes = new Lanes({
      arena,
      settings: options.settings,
      sources: this.#collected.map((member, index) => ({
        name: member.source.name,
        index,
        lane: member.source.pace,
        expected: expectedOf(member),
        level: levels[index] ?? 0,
        ...(assessedAtStart(member) ? { assessFor: member.policy } : {}),
      })),
      onAssessed: (index, record) => this.#assessed(index, record),
      onFailed: (index, why) => options.onSourceFailed?.(this.#collected[index]?.source.name ?? '', why),
      ...(options.patience === undefined ? {} : { patience: options.patience }),
    });
    this.#conditioner = new Conditioner(arena, this.#lanes.rings, this.#collected.length, (index) => {
      const member = this.#collected[index];
      return member === undefined ? 0 : creditOf(member);
    });
    this.#root = {
      arena,
      clock: options.clock,
      admit: () => this.#admit(),
      derive: (seed) => this.#drbg.generate(seed.bytes),
      gave: (bytes) => {
        this.#requests += Math.max(1, Math.ceil(bytes / requestLength));
        this.#bytesOut += bytes;
      },
    };
    this.#own = this.consumer('pool');
    this.#lanes.start('quick');
    if (!laneSuffices(this.#collected, 'quick')) this.#lanes.start('patient');
    this.#timer = setInterval(() => this.#tend(), tendMilliseconds);
    this.#timer.unref();
  }

  /**
   * Resolves when the first seed is made: `bitsPerSeed` (448) credited bits conditioned into 384.
   * @throws Failure `entropy-not-ready` after `milliseconds`; `entropy-uncredited` when what is left can make none, `entropy-unhealthy`,
   * `zeroized`.
   */
  async ready(milliseconds = 20_000): Promise<void> {
    const began = performance.now();
    for (;;) {
      if (this.#arena.zeroized) throw zeroizedFailure('Random output');
      if (this.#seedIfDue()) return;
      if (this.#lanes.lost !== undefined) throw unhealthy(this.#lanes.lost);
      const waited = performance.now() - began;
      if (waited >= milliseconds) throw notReady();
      if (waited > patientAfterMilliseconds) {
        this.#lanes.start('patient');
        const isLost = this.#collected.some((_, index) => this.#lanes.isLost(index));
        if (!isLost && this.status().state === 'unhealthy') throw uncredited();
      }
      await new Promise((resolve) => setTimeout(resolve, pollMilliseconds));
    }
  }

  /**
   * Fills `out`, of any length, with output of the DRBG.
   * @throws Failure `entropy-not-ready` before the first seed, `entropy-unhealthy` when the last seed has served as long
   * as it may and no new one could be made, `zeroized`; `out` is then zero.
   */
  read(out: Uint8Array): void {
    this.#own.read(out);
  }

  /**
   * As `read`, with prediction resistance (SP 800-90A section 8.8): a seed of noise that came after the last one goes in first.
   * @throws as `read`; `entropy-not-ready` when the noise does not suffice within `milliseconds`.
   */
  async readFresh(out: Uint8Array, milliseconds = 10_000): Promise<void> {
    const deadline = performance.now() + milliseconds;
    for (;;) {
      if (this.#arena.zeroized || this.#stopping) break;
      if (this.#paused === undefined && this.#seed()) break;
      if (performance.now() >= deadline) {
        out.fill(0);
        throw notReady();
      }
      await new Promise((resolve) => setTimeout(resolve, pollMilliseconds));
    }
    this.#own.read(out);
  }

  /** A generator of its own, seeded from this pool's. Dispose of it when its consumer goes. */
  consumer(label: string): Consumer {
    const consumer = new Consumer(this.#root, label);
    this.#consumers.add(consumer);
    return consumer;
  }

  /** Ends a consumer that is not needed any more. */
  release(consumer: Consumer): void {
    if (this.#consumers.delete(consumer)) consumer[Symbol.dispose]();
  }

  /** Stops collecting for a maintenance window; output goes on. No health test sees a gap. */
  pause(reason: string): void {
    this.#paused = reason;
    this.#lanes.rings.pause(true);
  }

  resume(): void {
    this.#paused = undefined;
    this.#lanes.rings.pause(false);
  }

  /** Tests a source anew from the beginning (SP 800-90B section 4.3, on-demand); the way back for an expelled one. */
  restart(name: string): void {
    this.#withIndex(name, (index) => this.#lanes.restart(index));
  }

  /** Rehearses a failure: the source delivers this instead of its noise until called with undefined. */
  induce(name: string, failure: InducedFailure | undefined): void {
    this.#withIndex(name, (index) => this.#lanes.rings.induce(index, failure));
  }

  status(): EntropyStatus {
    const sources = this.#members.map((member) =>
      sourceStatus(member, this.#collected.indexOf(member), this.#lanes),
    );
    return {
      state: poolState({
        zeroized: this.#arena.zeroized,
        stopped: this.#stopping,
        seeded: this.#seeds > 0,
        fresh: this.#seeds > 0 && this.#fresh,
        paused: this.#paused !== undefined,
        // One that is still being assessed may come to count.
        sources: sources.map(({ state }, at) => ({ state, credit: possibleCredit(this.#members[at]) })),
      }),
      ...(this.#paused === undefined || this.#arena.zeroized ? {} : { pausedFor: this.#paused }),
      ...(this.#lanes.lost === undefined ? {} : { why: this.#lanes.lost }),
      sources,
      seeded: this.#seeds > 0,
      reseeds: Math.max(0, this.#seeds - 1),
      bytesOut: this.#bytesOut,
      credited: Math.floor(this.#credited),
    };
  }

  /** Ends the threads and wipes everything; resolves when nothing is left running. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    clearInterval(this.#timer);
    await this.#lanes.end();
    for (const consumer of this.#consumers) consumer[Symbol.dispose]();
    this.#drbg[Symbol.dispose]();
    this.#conditioner[Symbol.dispose]();
    this.#system[Symbol.dispose]();
  }

  /** Whether something may be given out; returns how many seeds there have been. */
  #admit(): number {
    if (this.#arena.zeroized) throw zeroizedFailure('Random output');
    if (this.#stopping) throw new Failure('entropy-stopped', 'The entropy pool has been stopped.');
    if (!this.#seedIfDue()) throw notReady();
    if (!this.#fresh)
      throw this.#paused === undefined ? unhealthy(this.#lanes.lost) : outlasted(this.#paused);
    return this.#seeds;
  }

  get #fresh(): boolean {
    return this.#drbg.fresh && this.#requests < this.#limits.requests;
  }

  /** Seeds or reseeds when it is time and there are samples for it. Returns whether there is a seed at all. */
  #seedIfDue(): boolean {
    const due =
      this.#seeds === 0 ||
      this.#requests >= this.#reseedAfter.requests ||
      this.#drbg.age >= this.#reseedAfter.micros;
    if (due && !this.#arena.zeroized) this.#seed();
    return this.#seeds > 0;
  }

  /** False where the noise does not suffice. */
  #seed(): boolean {
    const credited = this.#conditioner.seed((seed) => this.#applySeed(seed));
    if (credited === 0) return false;
    this.#seeds += 1;
    this.#credited += credited;
    this.#requests = 0;
    this.#lanes.rings.markSeeded();
    return true;
  }

  /** The operating system's generator goes in as personalization or additional input, with the seed file; neither is ever counted. */
  #applySeed(seed: SecretBuffer): void {
    const system = this.#system.bytes;
    randomFillSync(system);
    if (this.#seeds === 0) {
      this.#options.seedFile?.mixInto(system);
      this.#drbg.instantiate(seed, system);
    } else this.#drbg.reseed(seed, system);
    system.fill(0);
  }

  #tend(): void {
    try {
      this.#lanes.check();
      // Not at once: a process that wants a few bytes is over by then.
      if (this.#seedIfDue()) this.#lanes.start('patient');
    } catch {
      // A zeroize in the middle; `read` and `status` say so.
    }
    const status = this.status();
    if (status.state === this.#lastState) return;
    this.#lastState = status.state;
    this.#options.onState?.(status.state, status);
  }

  #assessed(index: number, record: AssessmentRecord): void {
    const member = this.#collected[index];
    if (member !== undefined) member.record = record;
  }

  #withIndex(name: string, use: (index: number) => void): void {
    const names = this.#collected.map(({ source }) => source.name);
    const index = names.indexOf(name);
    if (index === -1) throw unknownSource(name, names);
    use(index);
  }
}
