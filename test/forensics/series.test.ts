// Bundles of one node against each other: really made, packed, quoted and signed, by a node whose disk or TPM is set back between.
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import type { EnrolmentRecord } from '../../src/attestation/enrolment.ts';
import type { Appraisal, SeriesClaimName } from '../../src/forensics/claims.ts';
import { bundleGivenUp, numbersSkipped } from '../../src/forensics/format.ts';
import { type BundleFacts, Series } from '../../src/forensics/series.ts';
import { appraiseGaps } from '../../src/forensics/series-gaps.ts';
import { appraiseBundle } from '../../src/forensics/verify.ts';
import { defaultVerifyPolicy } from '../../src/forensics/verify-policy.ts';
import {
  appraisers,
  beginHistory,
  type History,
  makeSample,
  type Sample,
  type SampleChoices,
} from './sample.ts';

const scratch = mkdtempSync(join(tmpdir(), 'ea-series-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

let directory: string;
let history: History;
let enrolment: EnrolmentRecord | undefined;
let made = 0;
beforeEach(({ task }) => {
  directory = join(scratch, task.id);
  mkdirSync(directory);
  history = beginHistory(directory);
  enrolment = undefined;
  made = 0;
});

/** The next bundle of the node: a minute later, unless told otherwise. */
async function bundle(sequence: number, choices: SampleChoices = {}): Promise<Sample> {
  made += 1;
  const at = new Date(Date.UTC(2026, 10, 20, 16, 30 + made)).toISOString();
  const own = join(directory, `${made}`);
  mkdirSync(own);
  const sample = await makeSample(own, { history, sequence, at, clock: 1000 * made, ...choices });
  enrolment ??= sample.enrolment;
  return sample;
}

async function factsOf({ archive, sigstoreBundle }: Sample, opened = true): Promise<BundleFacts | null> {
  const { facts, report } = await appraiseBundle<EnrolmentRecord>(
    {
      archive: opened ? archive : null,
      sigstoreBundle,
      enrolment: enrolment ?? null,
      trustedRoot: null,
      policy: defaultVerifyPolicy,
      allowBypassed: false,
    },
    appraisers,
  );
  expect(report.claims.find(({ claim }) => claim === 'signature')?.result).toBe('proven');
  return facts;
}

/** Together, whatever the order in which they are read. */
async function compare(...samples: readonly Sample[]): Promise<Record<SeriesClaimName, Appraisal>> {
  const facts = await Promise.all(samples.map((sample) => factsOf(sample)));
  const conclude = (order: readonly number[]) => {
    const series = new Series();
    for (const at of order) series.add(`bundle ${at + 1}`, facts[at] as BundleFacts);
    return series.conclude(appraisers).claims;
  };
  const claims = conclude(samples.map((_, at) => at));
  expect(conclude(samples.map((_, at) => at).toReversed())).toEqual(claims);
  const named = claims.map((claim): [string, Appraisal] => [claim.claim, claim]);
  return Object.fromEntries(named) as Record<SeriesClaimName, Appraisal>;
}
const failures = (claims: Awaited<ReturnType<typeof compare>>) =>
  Object.entries(claims).flatMap(([name, { result }]) => (result === 'failed' ? [name] : []));

describe('bundles of one node that follow each other', () => {
  it('are proven in every claim', async () => {
    const claims = await compare(await bundle(3), await bundle(4), await bundle(5));
    expect(Object.values(claims).map(({ result }) => result)).toEqual(Array(4).fill('proven'));
    expect(claims['sequence gaps'].detail).toBe('From 3 to 5 none is missing.');
    expect(claims.forks.detail).toMatch(/one history, of 6 records; the longest is in bundle 3/);
  });

  it('are not proven where nobody signed one of them', async () => {
    const series = new Series();
    for (const [at, sample] of [await bundle(1), await bundle(2)].entries()) {
      const facts = await factsOf(sample);
      series.add(`bundle ${at}`, { ...(facts as BundleFacts), bound: at === 0 });
    }
    const { claims } = series.conclude(appraisers);
    expect(claims.map(({ result }) => result)).toEqual(Array(4).fill('not-proven'));
    expect(claims[0]?.detail).toMatch(/not proven that anybody signed bundle 1/);
  });

  it('prove of each but the first that its log still holds what was seen before', async () => {
    const series = new Series();
    const samples = [await bundle(1), await bundle(2), await bundle(3)];
    for (const [at, sample] of samples.entries())
      series.add(`bundle ${at + 1}`, (await factsOf(sample)) as BundleFacts);
    expect([...series.seenEarlier()]).toEqual([
      ['bundle 2', expect.objectContaining({ sequence: 2, where: 'as the head of bundle 1' })],
      ['bundle 3', expect.objectContaining({ sequence: 4, where: 'as the head of bundle 2' })],
    ]);
    const known = samples[0]?.head ?? { sequence: 0, hash: '' };
    expect(series.seenEarlier({ ...known, sequence: 1 }).has('bundle 1')).toBe(false);
  });
});

describe('a gap', () => {
  it('is named where the bundle was made and is not here', async () => {
    const first = await bundle(1);
    await bundle(2);
    const claims = await compare(first, await bundle(3));
    expect(failures(claims)).toEqual(['sequence gaps']);
    expect(claims['sequence gaps'].detail).toBe('Bundle 2 was made, says record 5, and is not here.');
  });

  it('is told of what is left out, where that bears the number', async () => {
    const series = new Series();
    const samples = [await bundle(1), await bundle(2), await bundle(3)];
    for (const at of [0, 2])
      series.add(`bundle ${at + 1}`, (await factsOf(samples[at] as Sample)) as BundleFacts);
    series.leaveOut({ name: 'altered', sequence: 2 });
    series.leaveOut({ name: 'elsewhere', sequence: 7 });
    expect(series.conclude(appraisers).claims[0]?.detail).toBe(
      'Bundle 2 was made, says record 5, and is not here. altered is left out: it was altered, or tells nothing.',
    );
  });

  it('is named where nothing tells of the number', async () => {
    const claims = await compare(await bundle(1), await bundle(5));
    expect(failures(claims)).toEqual(['sequence gaps']);
    expect(claims['sequence gaps'].detail).toMatch(/^Numbers 2 to 4 are missing, and no custody log/);
  });

  it.each<[string, NonNullable<SampleChoices['events']>, RegExp]>([
    ['given up', [[bundleGivenUp, { sequence: 2, why: 'no room' }]], /Number 2 is given up, says record 4/],
    ['begun and never made', [['bundle-begun', { sequence: 2 }]], /Number 2 is given up, says record 4/],
    ['skipped', [[numbersSkipped, { from: 1, to: 2 }]], /given up, says record 4/],
  ])('is explained where the custody log says that the number was %s', async (_, events, words) => {
    const first = await bundle(1);
    const last = await bundle(3, { events });
    const claims = await compare(first, last);
    expect(failures(claims)).toEqual([]);
    expect(claims['sequence gaps']).toMatchObject({ result: 'proven', detail: expect.stringMatching(words) });
  });

  it('is explained by what was recorded later: a bundle that is no longer kept', async () => {
    const first = await bundle(1);
    await bundle(2);
    const claims = await compare(
      first,
      await bundle(3),
      await bundle(4, { events: [[bundleGivenUp, { sequence: 2, why: 'age' }]] }),
    );
    expect(claims['sequence gaps']).toMatchObject({ result: 'proven' });
  });

  it('before the first bundle here is told, and no failure', async () => {
    await bundle(1);
    const claims = await compare(await bundle(2), await bundle(3));
    expect(claims['sequence gaps']).toMatchObject({
      result: 'proven',
      detail: 'From 2 to 3 none is missing. Of 1 made before, this says nothing.',
    });
  });

  it('of any size is found at once, and every number in it is accounted for', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { minLength: 1 }),
        fc.array(fc.tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 5 }))),
        (present, skipped) => {
          const records = skipped.map(([from, more], at) => ({
            sequence: at + 1,
            time: '',
            event: numbersSkipped,
            detail: { from, to: from + more },
            previous: '',
          }));
          const members = present.map((sequence) => ({ sequence })) as never;
          const tips = [{ name: 'a', chain: { ok: true, records, head: { sequence: 0, hash: '' } } }];
          const explained = (n: number) => skipped.some(([from, more]) => from <= n && n <= from + more);
          let missing = false;
          for (let n = Math.min(...present); n < Math.max(...present); n += 1)
            missing ||= !present.includes(n) && !explained(n);
          expect(appraiseGaps(members, tips).result).toBe(missing ? 'failed' : 'proven');
        },
      ),
    );
    const huge = [{ sequence: 1 }, { sequence: Number.MAX_SAFE_INTEGER }] as never;
    expect(appraiseGaps(huge, []).result).toBe('failed');
  });
});

describe('a bundle that is encrypted and cannot be opened', () => {
  it('counts by its statement, and what its content would tell is not proven', async () => {
    const series = new Series();
    for (const [at, sample] of [await bundle(1), await bundle(2), await bundle(3)].entries())
      series.add(`bundle ${at + 1}`, (await factsOf(sample, at !== 1)) as BundleFacts);
    const { claims, bundles } = series.conclude(appraisers);
    expect(bundles).toEqual(['bundle 1', 'bundle 2', 'bundle 3']);
    expect(claims.map(({ claim, result }) => [claim, result])).toEqual([
      ['sequence gaps', 'not-proven'],
      ['duplicates', 'proven'],
      ['rollback', 'not-proven'],
      ['forks', 'not-proven'],
    ]);
    expect(claims[0]?.detail).toMatch(/^From 1 to 3 none is missing\. But bundle 2 cannot be opened/);
  });
});

describe('a duplicate', () => {
  it('is named where two bundles have one number, and leaves its mark as a fork too', async () => {
    const first = await bundle(1);
    copyFileSync(history.custody, `${history.custody}.kept`);
    const second = await bundle(2);
    copyFileSync(`${history.custody}.kept`, history.custody);
    const again = await bundle(2);
    const claims = await compare(first, second, again);
    expect(failures(claims)).toEqual(['duplicates', 'forks']);
    expect(claims.duplicates.detail).toBe('Number 2 was used by bundle 2 and bundle 3.');
  });

  it('that is a mere copy is told, and no failure', async () => {
    const first = await bundle(1);
    const claims = await compare(first, first, await bundle(2));
    expect(failures(claims)).toEqual([]);
    expect(claims.duplicates.detail).toMatch(/bundle 1 and bundle 2 are copies of one bundle/);
  });
});

describe('a fork', () => {
  it('is named with the first record in which the two histories differ', async () => {
    const first = await bundle(1);
    copyFileSync(history.custody, `${history.custody}.kept`);
    const second = await bundle(2);
    copyFileSync(`${history.custody}.kept`, history.custody);
    const other = await bundle(3, { events: [['maintenance-begun', {}]] });
    const claims = await compare(first, second, other);
    expect(failures(claims)).toEqual(['forks']);
    expect(claims.forks.detail).toMatch(
      /^bundle 3 and bundle 2 tell two histories from record 4 on: maintenance-begun at .*, and bundle-begun at /,
    );
    // Both histories tell of the first.
    const later = await compare(second, other);
    expect(later['sequence gaps'].detail).toContain('Of 1 made before');
  });
});

describe('a rollback', () => {
  it('of the custody log is named: a bundle of a higher number with a shorter history', async () => {
    const first = await bundle(1);
    copyFileSync(history.custody, `${history.custody}.kept`);
    const long = await bundle(2);
    copyFileSync(`${history.custody}.kept`, history.custody);
    const short = await bundle(3, { begun: [] });
    const claims = await compare(first, long, short);
    expect(failures(claims)).toEqual(['rollback']);
    expect(claims.rollback.detail).toMatch(
      /^bundle 3 ends at record 3 .* bundle 2, of a lower number, at record 4/,
    );
  });

  it.each<[string, SampleChoices, RegExp]>([
    ['the armed counter', { armed: 1 }, /armed counter stood at 2 in bundle 1 and at 1 in bundle 2/],
    ['the clock of the TPM', { armed: 2, clock: 10 }, /bundle 2 is older than bundle 1.*went back by 990 ms/],
  ])('of %s is named', async (_, second, words) => {
    const claims = await compare(await bundle(1, { armed: 2 }), await bundle(2, second));
    expect(failures(claims)).toEqual(['rollback']);
    expect(claims.rollback.detail).toMatch(words);
  });

  it('is not hidden by a bundle between that has nothing to compare, and without one it is not proven', async () => {
    const [first, silent, low, high] = [
      (await factsOf(await bundle(1, { armed: 5 }))) as BundleFacts,
      (await factsOf(await bundle(2, { armed: 5 }))) as BundleFacts,
      (await factsOf(await bundle(3, { armed: 3, clock: 10 }))) as BundleFacts,
      (await factsOf(await bundle(4, { armed: 6 }))) as BundleFacts,
    ];
    const rollback = (last: BundleFacts) => {
      const series = new Series();
      series.add('bundle 1', first);
      series.add('bundle 2', { ...silent, clock: null, counters: { sequence: null, armed: null } });
      series.add('the last', last);
      return series.conclude(appraisers).claims.find(({ claim }) => claim === 'rollback');
    };
    expect(rollback(low)).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(
        /stood at 5 in bundle 1 and at 3 in the last.*the last is older than bundle 1/,
      ),
    });
    expect(rollback(high)).toMatchObject({
      result: 'not-proven',
      detail: expect.stringMatching(/^Of bundle 2 not both counters/),
    });
  });

  it("of the node's own clock is not proven: it may have been corrected", async () => {
    const claims = await compare(await bundle(1), await bundle(2, { at: '2026-11-20T16:00:00.000Z' }));
    expect(claims.rollback).toMatchObject({
      result: 'not-proven',
      detail: expect.stringMatching(/set back between bundle 1 .* and bundle 2/),
    });
  });

  it('shows against a head that was seen elsewhere', async () => {
    const series = new Series();
    const sample = await bundle(1);
    series.add('bundle 1', (await factsOf(sample)) as BundleFacts);
    const resultFor = (known: { sequence: number; hash: string }) =>
      series.conclude(appraisers, known).claims.find(({ claim }) => claim === 'rollback')?.result;
    expect(resultFor(sample.head)).toBe('proven');
    expect(resultFor({ ...sample.head, sequence: 9 })).toBe('failed');
    expect(resultFor({ ...sample.head, hash: 'ab'.repeat(32) })).toBe('failed');
  });
});

it('what was altered is no word of its node', async () => {
  const sample = await bundle(1);
  const archive = Uint8Array.from(sample.archive);
  archive[archive.length >> 1] = (archive[archive.length >> 1] ?? 0) ^ 1;
  const { facts } = await appraiseBundle<EnrolmentRecord>(
    {
      archive,
      sigstoreBundle: sample.sigstoreBundle,
      enrolment: enrolment ?? null,
      trustedRoot: null,
      policy: defaultVerifyPolicy,
      allowBypassed: true,
    },
    appraisers,
  );
  expect(facts).toBeNull();
});
