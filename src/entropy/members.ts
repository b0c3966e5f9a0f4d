// The sources of a pool: which were chosen, whether they are there, and what each counts. The credit of a source is known only when it
// has been assessed on this machine, before or at the start.
import { exitStatus, Failure } from '../host/failure.ts';
import { type AssessmentRecord, creditInUse, expectedEntropy } from './assessment/record.ts';
import { noiseSources } from './catalogue.ts';
import { bitsPerSeed } from './conditioning.ts';
import { type CreditPolicy, creditFor, type SourceCredit } from './credit.ts';
import { type Lane, ringCapacity } from './rings.ts';
import type { Availability, NoiseSource, SourceSettings } from './source.ts';

export interface Member {
  readonly source: NoiseSource;
  readonly policy: SourceCredit;
  readonly availability: Availability;
  record: AssessmentRecord | undefined;
}

export interface Choice {
  /** Names of sources, or of families; all, unless told. */
  readonly sources?: readonly string[];
  readonly settings: SourceSettings;
  readonly policy: CreditPolicy;
  /** Made on this machine, by source. */
  readonly assessments?: ReadonlyMap<string, AssessmentRecord>;
}

/** @throws Failure `source-unknown`; `entropy-uncredited` when the available sources could never fill a seed. */
export function chooseMembers({ sources, settings, policy, assessments }: Choice): Member[] {
  const members = chosenSources(sources, settings).map((source) => ({
    source,
    policy: creditFor(policy, source.name),
    availability: source.available(),
    record: assessments?.get(source.name),
  }));
  const possible = members
    .filter(({ availability }) => availability.ok)
    .reduce((sum, member) => sum + possibleCredit(member) * ringCapacity, 0);
  if (possible < bitsPerSeed) throw tooLittleCredit(possible);
  return members;
}

export const creditOf = ({ policy, record }: Member): number => creditInUse(policy, record);

export const expectedOf = ({ policy, record }: Member): number => expectedEntropy(policy, record);

/** It is worth a brief assessment: quick, and the policy would credit it. */
export const assessedAtStart = ({ source, policy, record }: Member): boolean =>
  record === undefined && source.pace === 'quick' && policy.credit > 0;

/** What it may count at best, now or when it has been assessed. */
export function possibleCredit(member: Member | undefined): number {
  if (member === undefined) return 0;
  return assessedAtStart(member) ? member.policy.credit : creditOf(member);
}

/** Whether the sources of one lane could fill a seed without the other. */
export function laneSuffices(members: readonly Member[], lane: Lane): boolean {
  return (
    members
      .filter(({ source }) => source.pace === lane)
      .reduce((sum, member) => sum + possibleCredit(member) * ringCapacity, 0) >= bitsPerSeed
  );
}

const leastLevel = 1024;
/** For a source that counts nothing. */
const mixedLevel = 128;

/** Samples in the ring of each that make the next seed together, with a quarter to spare. */
export function levelsOf(members: readonly Member[]): number[] {
  const bits = members.reduce((sum, member) => sum + possibleCredit(member), 0);
  const level = Math.min(ringCapacity, Math.max(leastLevel, Math.ceil((1.25 * bitsPerSeed) / bits)));
  return members.map((member) => (possibleCredit(member) > 0 ? level : mixedLevel));
}

function chosenSources(names: readonly string[] | undefined, settings: SourceSettings): NoiseSource[] {
  const known = noiseSources(settings);
  if (names === undefined) return known;
  for (const name of names) {
    if (!known.some((source) => source.name === name || source.family === name))
      throw unknownSource(
        name,
        known.map((source) => source.name),
      );
  }
  return known.filter((source) => names.includes(source.name) || names.includes(source.family));
}

export function unknownSource(name: string, known: readonly string[]): Failure {
  return new Failure('source-unknown', `There is no noise source "${name}".`, {
    remedy: `Use one of ${known.join(', ')}.`,
    status: exitStatus.usage,
  });
}

function tooLittleCredit(possible: number): Failure {
  return new Failure(
    'entropy-uncredited',
    `The noise sources are credited ${Math.floor(possible)} bits for full rings; a seed needs ${bitsPerSeed}.`,
    {
      remedy:
        'Choose more sources, or assess them with `esoteric-appliance probe` and credit them in policies/entropy.toml.',
    },
  );
}
