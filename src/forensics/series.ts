// What the bundles of one node say of each other: numbers that are missing or used twice, histories that go back or contradict one
// another. Pure. Only the longest custody logs are held, for the shorter ones are beginnings of them or forks.
import { type ChainCheck, type CustodyHead, hashOf } from '../custody/chain.ts';
import type { Appraisers, ClockReading } from './appraisers.ts';
import {
  type Appraisal,
  failed,
  notProven,
  proven,
  type SeriesClaim,
  type SeriesClaimName,
  seriesClaimNames,
  weakened,
} from './claims.ts';
import { appraiseGaps } from './series-gaps.ts';

/** What of a bundle can be compared with others of its node. */
export interface BundleFacts {
  readonly archiveSha256: string;
  readonly node: string;
  readonly sequence: number;
  /** RFC 3339, by the node's own clock. */
  readonly created: string;
  /** False where the archive is encrypted and cannot be opened here: the statement alone speaks then. */
  readonly opened: boolean;
  /** A signature or a quote over it is proven. */
  readonly bound: boolean;
  /** Null where there is none, or none that is whole. */
  readonly custody: ChainCheck | null;
  /** Of a quote that holds. */
  readonly clock: ClockReading | null;
  /** As the TPM certified them. */
  readonly counters: { readonly sequence: bigint | null; readonly armed: bigint | null };
}

/** A bundle as it is kept: with the head of its custody log alone. */
export type Member = Omit<BundleFacts, 'custody'> & {
  readonly name: string;
  readonly head: CustodyHead | null;
};

/** A custody log that no other one here goes on from. */
export interface Tip {
  readonly name: string;
  readonly chain: ChainCheck;
}

/** A bundle that was altered, or tells nothing, so that nothing is compared; the number is that of its name. */
export interface LeftOut {
  readonly name: string;
  readonly sequence: number;
}

export interface NodeSeries {
  readonly node: string;
  /** Names of the bundles, by their number. */
  readonly bundles: readonly string[];
  readonly claims: readonly SeriesClaim[];
}

const holds = (chain: ChainCheck, head: CustodyHead): boolean =>
  head.sequence <= chain.head.sequence && hashOf(chain, head.sequence) === head.hash;

export class Series {
  readonly #members: Member[] = [];
  #tips: Tip[] = [];
  readonly #leftOut: LeftOut[] = [];

  add(name: string, { custody, ...facts }: BundleFacts): void {
    this.#members.push({ ...facts, name, head: custody?.head ?? null });
    if (custody === null || this.#tips.some(({ chain }) => holds(chain, custody.head))) return;
    const others = this.#tips.filter(({ chain }) => !holds(custody, chain.head));
    this.#tips = [...others, { name, chain: custody }];
  }

  /** Whether it is proven of any bundle that its node signed it. */
  get bound(): boolean {
    return this.#members.some(({ bound }) => bound);
  }

  leaveOut(bundle: LeftOut): void {
    this.#leftOut.push(bundle);
  }

  /** `known`: a head of this node's custody log that was seen elsewhere. */
  conclude(appraisers: Pick<Appraisers, 'clock'>, known?: CustodyHead): NodeSeries {
    const members = this.#members.toSorted(byNumber);
    const distinct = members.filter(
      ({ archiveSha256 }, at) => members.findIndex((one) => one.archiveSha256 === archiveSha256) === at,
    );
    const results: Record<SeriesClaimName, Appraisal> = {
      'sequence gaps': weakened(appraiseGaps(distinct, this.#tips, this.#leftOut), unopened(distinct)),
      duplicates: appraiseDuplicates(members, distinct),
      rollback: this.#appraiseRollback(distinct, appraisers, known),
      forks: appraiseForks(distinct, this.#tips),
    };
    const unbound = distinct.find(({ bound }) => !bound);
    const why =
      unbound === undefined ? undefined : `But it is not proven that anybody signed ${unbound.name}.`;
    return {
      node: members[0]?.node ?? '',
      bundles: members.map(({ name }) => name),
      claims: seriesClaimNames.map((claim) => ({ claim, ...weakened(results[claim], why) })),
    };
  }

  /** For each bundle whose log still holds a record that was seen earlier: the latest such record, and where it was seen. */
  seenEarlier(known?: CustodyHead): Map<string, { readonly sequence: number; readonly where: string }> {
    const heads = this.#members.flatMap(({ name, head, bound }) =>
      head === null || !bound ? [] : [{ ...head, where: `as the head of ${name}` }],
    );
    if (known !== undefined) heads.push({ ...known, where: 'as the head that was given' });
    const found = new Map<string, { sequence: number; where: string }>();
    for (const { name, head } of this.#members) {
      const branch = head === null ? undefined : this.#tips.find(({ chain }) => holds(chain, head));
      if (head === null || branch === undefined) continue;
      const earlier = heads
        .filter((one) => one.sequence < head.sequence && holds(branch.chain, one))
        .toSorted((a, b) => b.sequence - a.sequence)[0];
      if (earlier !== undefined) found.set(name, earlier);
    }
    return found;
  }

  #appraiseRollback(
    members: readonly Member[],
    appraisers: Pick<Appraisers, 'clock'>,
    known: CustodyHead | undefined,
  ): Appraisal {
    const gone =
      known !== undefined && !this.#tips.some(({ chain }) => holds(chain, known))
        ? [`Record ${known.sequence} of the custody log was seen earlier, and no bundle here holds it.`]
        : [];
    const back = [
      ...pairsOf(members, ({ head }) => head).flatMap((pair) => [...this.#wentBack(...pair)]),
      ...countersWentBack(members),
      ...clockWentBack(members, appraisers),
    ];
    if (gone.length + back.length > 0) return failed([...gone, ...back].join(' '));
    const silent = members.find(({ head }) => head === null);
    if (silent !== undefined) return notProven(silence(silent));
    const set = pairsOf(members).find(
      ([earlier, later]) => Date.parse(later.created) < Date.parse(earlier.created),
    );
    if (set !== undefined) {
      return notProven(
        `The node's clock was set back between ${set[0].name} (${set[0].created}) and ${set[1].name} (${set[1].created}): corrected, or rolled back.`,
      );
    }
    if (members.length < 2)
      return proven('Only one bundle of this node is here, so none can be later than another.');
    const timeless = members.find(({ counters: { sequence, armed }, clock }) =>
      [sequence, armed, clock].includes(null),
    );
    if (timeless !== undefined) {
      return notProven(
        `Of ${timeless.name} not both counters and the clock of a TPM are proven, to compare.`,
      );
    }
    return proven('Custody log, counters and clock go forward from each bundle to the next.');
  }

  /** On one and the same history; two histories are a fork. */
  *#wentBack(earlier: Member, later: Member): Generator<string> {
    if (earlier.sequence === later.sequence || earlier.head === null || later.head === null) return;
    const [before, after] = [earlier.head, later.head];
    const together = this.#tips.some(({ chain }) => holds(chain, before) && holds(chain, after));
    if (!together || after.sequence > before.sequence) return;
    yield `${later.name} ends at record ${after.sequence} of the custody log, but ${earlier.name}, of a lower number, at record ${before.sequence}: the log was set back.`;
  }
}

const silence = ({ name, opened }: Member): string =>
  opened
    ? `${name} holds no custody log to compare.`
    : `${name} is encrypted and cannot be opened here, nor its custody log be compared.`;

function unopened(members: readonly Member[]): string | undefined {
  const closed = members.find(({ opened }) => !opened);
  return closed && `But ${closed.name} cannot be opened here: that it is what it is called is not proven.`;
}

/** Of the bundles that have it, each with the next one that has it: one between them that lacks it hides nothing. */
function pairsOf(
  members: readonly Member[],
  has: (member: Member) => unknown = () => true,
): (readonly [earlier: Member, later: Member])[] {
  const having = members.filter((member) => has(member) !== null);
  return having.slice(1).map((later, at) => [having[at] ?? later, later] as const);
}

function* countersWentBack(members: readonly Member[]): Generator<string> {
  for (const [counter, what] of [
    ['sequence', 'counter of bundles'],
    ['armed', 'armed counter'],
  ] as const) {
    for (const [earlier, later] of pairsOf(members, ({ counters }) => counters[counter])) {
      const [before, after] = [earlier.counters[counter], later.counters[counter]];
      if (before !== null && after !== null && after < before)
        yield `The TPM's ${what} stood at ${before} in ${earlier.name} and at ${after} in ${later.name}.`;
    }
  }
}

function* clockWentBack(
  members: readonly Member[],
  appraisers: Pick<Appraisers, 'clock'>,
): Generator<string> {
  for (const [earlier, later] of pairsOf(members, ({ clock }) => clock)) {
    if (earlier.clock === null || later.clock === null || earlier.sequence === later.sequence) continue;
    const { result, detail } = appraisers.clock(earlier.clock, later.clock);
    if (result === 'failed')
      yield `By the TPM's clock ${later.name} is older than ${earlier.name}, of a lower number. ${detail}`;
  }
}

function appraiseDuplicates(members: readonly Member[], distinct: readonly Member[]): Appraisal {
  const twice = [...Map.groupBy(distinct, ({ sequence }) => sequence)].filter(([, of]) => of.length > 1);
  if (twice.length > 0) {
    return failed(
      twice
        .map(
          ([sequence, of]) => `Number ${sequence} was used by ${of.map(({ name }) => name).join(' and ')}.`,
        )
        .join(' '),
    );
  }
  const copies = [...Map.groupBy(members, ({ archiveSha256 }) => archiveSha256).values()].filter(
    (of) => of.length > 1,
  );
  const same = copies.map((of) => ` ${of.map(({ name }) => name).join(' and ')} are copies of one bundle.`);
  return proven(`No number was used by two bundles.${same.join('')}`);
}

function appraiseForks(members: readonly Member[], tips: readonly Tip[]): Appraisal {
  const [main, ...others] = tips.toSorted(
    (a, b) => b.chain.head.sequence - a.chain.head.sequence || (a.name < b.name ? -1 : 1),
  );
  if (main === undefined) return notProven('No bundle holds a custody log.');
  if (others.length > 0) return failed(others.map((other) => describeFork(main, other)).join(' '));
  const silent = members.find(({ head }) => head === null);
  if (silent !== undefined) return notProven(silence(silent));
  return proven(
    `All custody logs are one history, of ${main.chain.head.sequence} records; the longest is in ${main.name}.`,
  );
}

/** The first record in which two logs differ. Neither is a beginning of the other, so there is one in both. */
function describeFork(main: Tip, other: Tip): string {
  let at = 1;
  while (hashOf(main.chain, at) === hashOf(other.chain, at)) at += 1;
  const told = ({ chain }: Tip): string => {
    const record = chain.records[at - 1];
    return record === undefined ? 'nothing' : `${record.event} at ${record.time}`;
  };
  return `${main.name} and ${other.name} tell two histories from record ${at} on: ${told(main)}, and ${told(other)}.`;
}

const byNumber = (a: Member, b: Member): number =>
  a.sequence - b.sequence ||
  (a.head?.sequence ?? 0) - (b.head?.sequence ?? 0) ||
  Date.parse(a.created) - Date.parse(b.created) ||
  (a.name < b.name ? -1 : 1);
