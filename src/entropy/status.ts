// What the entropy side says about itself: in `status`, over HTTP and in forensic bundles.
import { bitsPerSeed } from './conditioning.ts';
import type { HealthState } from './health.ts';
import { ringCapacity } from './rings.ts';

export interface SourceStatus {
  readonly name: string;
  readonly family: string;
  /** Where the noise comes from. */
  readonly physical: string;
  readonly state: HealthState | 'unavailable';
  /** Bits of min-entropy counted for one sample: the least of assessment, restart test and policy. */
  readonly credit: number;
  /** How it was assessed on this machine; without that it counts nothing. */
  readonly assessed: 'full' | 'brief' | 'none';
  /** Raw samples taken. */
  readonly samples: number;
  /** Alarms of the health tests, and losses. */
  readonly failures: number;
  readonly available: boolean;
  /** Why it is unavailable or expelled, where that is known. */
  readonly why?: string;
}

/**
 * `seeding`: nothing is given out yet. `serving`. `paused`: serving, a maintenance window pauses the collection.
 * `degraded`: serving from the last seed, the healthy credited sources do not suffice for another. `unhealthy`: refusing until there is one.
 */
export type PoolState = 'seeding' | 'serving' | 'paused' | 'degraded' | 'unhealthy' | 'zeroized' | 'stopped';

export interface EntropyStatus {
  readonly state: PoolState;
  readonly pausedFor?: string;
  readonly why?: string;
  readonly sources: readonly SourceStatus[];
  readonly seeded: boolean;
  readonly reseeds: number;
  readonly bytesOut: number;
  /** Bits that all seeds so far rest on. */
  readonly credited: number;
}

/** Whether output has stopped for want of good noise; not while a maintenance window keeps it from being collected. */
export const noiseHasFailed = ({ state, pausedFor }: Pick<EntropyStatus, 'state' | 'pausedFor'>): boolean =>
  state === 'unhealthy' && pausedFor === undefined;

export function poolState(facts: {
  readonly zeroized: boolean;
  readonly stopped: boolean;
  readonly seeded: boolean;
  /** The last seed may still serve. */
  readonly fresh: boolean;
  readonly paused: boolean;
  readonly sources: readonly Pick<SourceStatus, 'state' | 'credit'>[];
}): PoolState {
  if (facts.zeroized) return 'zeroized';
  if (facts.stopped) return 'stopped';
  if (facts.seeded && !facts.fresh) return 'unhealthy';
  if (!suffice(facts.sources.filter(({ state }) => usable(state)))) {
    return facts.seeded ? 'degraded' : 'unhealthy';
  }
  if (!facts.seeded) return 'seeding';
  if (facts.paused) return 'paused';
  return suffice(facts.sources.filter(({ state }) => state === 'healthy')) ? 'serving' : 'degraded';
}

/** Whether full rings of these would make a seed. */
const suffice = (sources: readonly Pick<SourceStatus, 'credit'>[]): boolean =>
  sources.reduce((sum, { credit }) => sum + credit * ringCapacity, 0) >= bitsPerSeed;

const usable = (state: SourceStatus['state']): boolean => state !== 'expelled' && state !== 'unavailable';
