// Numbers that no bundle here has, held against what the custody logs say became of them. Pure. Numbers are handled in ranges, for
// a forged one may be as large as it likes.
import type { CustodyRecord } from '../custody/chain.ts';
import { type Appraisal, failed, proven } from './claims.ts';
import { bundleBegun, bundleGivenUp, bundleMade, numbersSkipped } from './format.ts';
import type { LeftOut, Member, Tip } from './series.ts';

/** Both ends included. */
interface Range {
  readonly from: number;
  readonly to: number;
}

/** What became of numbers, as a custody log tells it. */
interface Told extends Range {
  readonly fate: 'made' | 'given up';
  readonly record: number;
}

/**
 * Every number between those of the bundles here is that of a bundle, or recorded as given up. A log cannot tell of bundles after
 * its own, so the last number is the highest that is here.
 */
export function appraiseGaps(
  members: readonly Member[],
  tips: readonly Tip[],
  leftOut: readonly LeftOut[] = [],
): Appraisal {
  const numbers = [...new Set(members.map(({ sequence }) => sequence))].toSorted((a, b) => a - b);
  const first = numbers[0] ?? 0;
  const told = tips.flatMap(({ chain }) => toldOf(chain.records));
  const gaps = numbers
    .slice(1)
    .map((number, at) => ({ from: (numbers[at] ?? 0) + 1, to: number - 1 }))
    .filter(({ from, to }) => from <= to);
  const givenUp = told.filter(({ fate }) => fate === 'given up');
  const unexplained = gaps.flatMap((gap) => without(gap, givenUp));
  if (unexplained.length > 0) {
    return failed(
      unexplained
        .slice(0, 20)
        .flatMap((range) => [describe(range, told), ...leftOutOf(range, leftOut)])
        .join(' '),
    );
  }
  const explained = givenUp.filter(({ from, to }) => gaps.some((gap) => from <= gap.to && gap.from <= to));
  const words = explained.map((one) => ` ${rangeWords(one)} given up, says record ${one.record}.`);
  const before = new Set(told.flatMap(({ fate, to }) => (fate === 'made' && to < first ? [to] : []))).size;
  const earlier = before === 0 ? '' : ` Of ${before} made before, this says nothing.`;
  const all =
    numbers.length < 2
      ? `Number ${first} is alone here.`
      : `From ${first} to ${numbers.at(-1)} none is missing.`;
  return proven(`${all}${words.join('')}${earlier}`);
}

/** A number that was begun and of which no bundle was made was given up, whether or not there was time to say so. */
function toldOf(records: readonly CustodyRecord[]): Told[] {
  const fates = new Map<number, Told>();
  const skipped: Told[] = [];
  for (const { event, detail, sequence: record } of records) {
    const number = Number(detail.sequence);
    const tell = (fate: Told['fate']) => fates.set(number, { from: number, to: number, fate, record });
    if (event === bundleBegun && fates.get(number)?.fate !== 'made') tell('given up');
    else if (event === bundleMade) tell('made');
    // What was delivered is expected where it was delivered to, although the node keeps it no longer.
    else if (event === bundleGivenUp && detail.delivered !== true) tell('given up');
    else if (event === numbersSkipped)
      skipped.push({ from: Number(detail.from), to: Number(detail.to), fate: 'given up', record });
  }
  return [...fates.values(), ...skipped].filter(({ from, to }) => from <= to);
}

function without(range: Range, taken: readonly Range[]): Range[] {
  return taken.reduce<Range[]>(
    (left, { from, to }) =>
      left.flatMap((part) =>
        to < part.from || part.to < from
          ? [part]
          : [
              { from: part.from, to: from - 1 },
              { from: to + 1, to: part.to },
            ].filter((rest) => rest.from <= rest.to),
      ),
    [range],
  );
}

function describe(range: Range, told: readonly Told[]): string {
  const made = told.filter(({ fate, from }) => fate === 'made' && range.from <= from && from <= range.to);
  const untold = without(range, made);
  return [
    ...made.map(({ from, record }) => `Bundle ${from} was made, says record ${record}, and is not here.`),
    ...untold.map((part) => `${rangeWords(part)} missing, and no custody log here tells why.`),
  ].join(' ');
}

/** What lies here under such a number, and does not count. */
const leftOutOf = ({ from, to }: Range, leftOut: readonly LeftOut[]): string[] =>
  leftOut
    .filter(({ sequence }) => from <= sequence && sequence <= to)
    .slice(0, 20)
    .map(({ name }) => `${name} is left out: it was altered, or tells nothing.`);

const rangeWords = ({ from, to }: Range): string =>
  from === to ? `Number ${from} is` : `Numbers ${from} to ${to} are`;
