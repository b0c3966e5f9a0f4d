// An interlock with a secret to guard, as the tests of this folder use it: in this process, on real interfaces.
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SecretArena } from '../../src/host/arena.ts';
import { viewMemory } from '../../src/host/libc.ts';
import { causes, type ZeroizeLevel } from '../../src/interlock/causes.ts';
import { Interlock, type InterlockEvent, type InterlockOptions } from '../../src/interlock/interlock.ts';
import type { ZeroizeOutcome } from '../../src/interlock/outcome.ts';
import type { StagePlan } from '../../src/interlock/stages.ts';

export interface GuardOptions {
  readonly interfaces?: readonly string[];
  readonly level?: ZeroizeLevel;
  readonly tpm?: StagePlan['tpm'];
  readonly blobs?: readonly string[];
  readonly statePath?: string;
  readonly heartbeatMilliseconds?: number;
  readonly pollMilliseconds?: number;
  readonly plannedFlapsPerHour?: number;
  readonly tamper?: readonly number[];
  readonly sysfs?: string;
}

export class Guard implements AsyncDisposable {
  readonly arena = SecretArena.allocate({ allowSwappable: true });
  readonly directory = mkdtempSync(join(tmpdir(), 'ea-guard-'));
  readonly statePath: string;
  readonly events: InterlockEvent[] = [];
  /** Each outcome that the interlock has told; at most one. */
  readonly outcomes: ZeroizeOutcome[] = [];
  readonly options: InterlockOptions;
  #interlock: Interlock | undefined;

  constructor(options: GuardOptions = {}) {
    randomFillSync(this.arena.take(4096, 'guarded').bytes);
    this.statePath = options.statePath ?? join(this.directory, 'state.json');
    this.options = {
      arena: this.arena,
      interfaces: options.interfaces ?? ['near0'],
      plan: {
        levels: causes.map(() => options.level ?? 'lock'),
        tpm: options.tpm ?? null,
        disk: { statePath: this.statePath, blobs: options.blobs ?? [] },
      },
      pollMilliseconds: options.pollMilliseconds ?? 1,
      heartbeatMilliseconds: options.heartbeatMilliseconds ?? 10_000,
      plannedFlapsPerHour: options.plannedFlapsPerHour ?? 3,
      ...(options.tamper === undefined ? {} : { tamper: options.tamper }),
      ...(options.sysfs === undefined ? {} : { sysfs: options.sysfs }),
      onZeroized: (outcome) => this.outcomes.push(outcome),
      onEvent: (event) => this.events.push(event),
    };
  }

  static async start(options: GuardOptions = {}): Promise<Guard> {
    const guard = new Guard(options);
    try {
      guard.#interlock = await Interlock.start(guard.options);
      return guard;
    } catch (error) {
      await guard[Symbol.asyncDispose]();
      throw error;
    }
  }

  get interlock(): Interlock {
    if (this.#interlock === undefined) throw new Error('The interlock has not been started.');
    return this.#interlock;
  }

  /** Whether every byte of the arena is zero, and the flag is up. */
  get wiped(): boolean {
    const { address, byteLength } = this.arena.region;
    return this.arena.zeroized && viewMemory(address, byteLength).every((byte) => byte === 0);
  }

  /** The outcome, once it has been told. */
  async struck(milliseconds = 5000): Promise<ZeroizeOutcome> {
    return await until('a zeroize', () => this.outcomes[0], milliseconds);
  }

  /** The events of a kind so far. */
  heard<Kind extends InterlockEvent['kind']>(kind: Kind): Extract<InterlockEvent, { kind: Kind }>[] {
    return this.events.filter(
      (event): event is Extract<InterlockEvent, { kind: Kind }> => event.kind === kind,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#interlock?.[Symbol.asyncDispose]();
    this.arena[Symbol.dispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export async function until<T>(what: string, look: () => T | undefined, milliseconds = 5000): Promise<T> {
  for (let waited = 0; waited < milliseconds; waited += 5) {
    const found = look();
    if (found !== undefined) return found;
    await sleep(5);
  }
  throw new Error(`Waited ${milliseconds} ms for ${what}.`);
}
