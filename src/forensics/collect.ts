// Collects the members of a bundle into a directory. A collector that fails, hangs or floods is recorded and never stops
// the others: what can be had is taken, and what is missing is said. What is gone soonest is taken first.
import { setImmediate as breath, setTimeout as delay } from 'node:timers/promises';
import { Canaries, refuseSurvivors } from './canary.ts';
import { type Chunks, drain, type Way } from './drain.ts';
import { type CollectorOutcome, isMemberPath, type ManifestFile, recordsPath } from './format.ts';
import { GrowingMember } from './growing-member.ts';
import { type FileAbout, MemberFile, type Place } from './member-file.ts';
import type { RedactionForm, RedactionRecord, RedactionStream, Redactor } from './redact.ts';
import type { Room } from './room.ts';

/**
 * How soon what is read may be gone, the soonest first (RFC 3227, section 2.1). `memory`: routing table, ARP cache, process table,
 * kernel statistics, memory. `temporary`: temporary file systems, and logs that are cleared away by their size and age.
 * `disk`. `configuration`: physical configuration and topology. `archive`: archival media, a journal that was put aside. Registers
 * and caches are out of a program's reach, and nothing remote is read.
 */
const volatilities = ['memory', 'temporary', 'disk', 'configuration', 'archive'] as const;
export type Volatility = (typeof volatilities)[number];

/** What of these is not taken at once may be gone: what is less volatile is begun when they have ended, all that lasts in a row. */
const fleeting: ReadonlySet<Volatility> = new Set(['memory', 'temporary']);

export interface Collector {
  /** Shown in progress and manifest. */
  readonly name: string;
  /** Of the member, such as `journal/entries.export`; portable ASCII, at most 99 characters. */
  readonly path: string;
  /** What is read and why, as the manifest tells it. */
  readonly source: string;
  readonly volatility: Volatility;
  /** More than this is cut off and the cut recorded. */
  readonly limitBytes: number;
  /** The custody log is never redacted; what is made of text from elsewhere is. */
  readonly redact: boolean;
  /** Text unless said: a journal is redacted field by field. */
  readonly form?: RedactionForm;
  /** Where the disk is nearly full, it leaves the others their share. */
  readonly yields?: true;
  /** Instead of that of all. */
  readonly timeoutMilliseconds?: number;
  /**
   * Called once. `signal` is aborted when the time is up; what was given until then is kept. `room`: more bytes than that would be cut
   * off, because the disk is nearly full. What an iteration returns at its end, if anything, says what was left out.
   */
  gather(signal: AbortSignal, room?: number): Promise<Uint8Array | string> | Chunks;
  /** Called where `gather` gave more than the limit, to give a part within it instead of what `gather` gave first. */
  gatherLess?(signal: AbortSignal, room?: number): Chunks;
}

export interface RunOptions {
  /** For each collector; those of one volatility run at the same time. */
  readonly timeoutMilliseconds: number;
  /** What is less volatile than memory and temporary files begins when those have ended, or after this long. Default 5000. */
  readonly patienceMilliseconds?: number;
  readonly onProgress?: (outcome: CollectorOutcome) => void;
  /** Bytes read so far by one that takes long, once a MiB. */
  readonly onGrowth?: (name: string, bytes: number) => void;
}

export interface CollectOptions extends RunOptions {
  /** Undefined: nothing is redacted. */
  readonly redactor?: Redactor;
  /** Undefined: as much as there is. */
  readonly room?: Room;
  /** RFC 3339. Where it is given, each outcome says when its collector began. */
  readonly clock?: () => string;
}

export interface Collected {
  /** For the manifest, sorted by path; records of redaction included. */
  readonly files: ManifestFile[];
  /** In the order in which they were begun. */
  readonly collectors: CollectorOutcome[];
}

interface Gathered {
  readonly files: readonly ManifestFile[];
  readonly outcome: CollectorOutcome;
  /** Rules that let a planted secret through, and where. */
  readonly survivors?: readonly string[];
}

/**
 * Runs all collectors. Never rejects for what a collector does; only for a directory that cannot be written to.
 * @throws Failure `canary-survived` when all have ended and a redactor let a planted secret through.
 */
export async function collectInto(
  place: Place,
  collectors: readonly Collector[],
  options: CollectOptions,
): Promise<Collected> {
  const usable = usablePaths(collectors);
  const keep = shareOfOthers(options.room);
  const gathered = await inOrder(collectors, options, async (collector): Promise<Gathered> => {
    const started = options.clock?.();
    const one: Gathered = usable.has(collector)
      ? await gatherOne(place, collector, options, collector.yields ? keep : 0)
      : {
          files: [],
          outcome: outcomeOf(collector, 'failed', `Its path ${collector.path} is not usable.`),
        };
    options.onProgress?.(one.outcome);
    return started === undefined ? one : { ...one, outcome: { ...one.outcome, started } };
  });
  refuseSurvivors(
    gathered.flatMap(({ survivors = [] }) => survivors),
    `What was collected is in ${place.path}, and has to stay on the node; where bundles are to be encrypted it is removed.`,
  );
  return {
    files: gathered.flatMap(({ files }) => files).sort((a, b) => (a.path < b.path ? -1 : 1)),
    collectors: gathered.map(({ outcome }) => outcome),
  };
}

export interface Measured {
  readonly outcome: CollectorOutcome;
  readonly collector: Collector;
  /** As they are read: neither redacted nor compressed. */
  readonly bytes: number;
}

/** Runs all collectors and keeps nothing but how much they gave. */
export async function measure(collectors: readonly Collector[], options: RunOptions): Promise<Measured[]> {
  return await inOrder(collectors, options, async (collector) => {
    let bytes = 0;
    const growth = growthOf(collector, options);
    const count = (chunk: Uint8Array): boolean => {
      bytes += chunk.length;
      growth(bytes);
      return true;
    };
    const way: Way = { feed: count, settle: () => true, ready: async () => true, done: async () => true };
    const { status, problem } = await drain(collector, timeoutOf(collector, options), undefined, way);
    const outcome = outcomeOf(collector, status, problem ?? `${bytes} bytes`);
    options.onProgress?.(outcome);
    return { outcome, collector, bytes };
  });
}

/** Begins one volatility after the other, the fleeting ones when those before have ended, and returns the results in this order. */
async function inOrder<T>(
  collectors: readonly Collector[],
  { patienceMilliseconds = 5000 }: RunOptions,
  run: (collector: Collector) => Promise<T>,
): Promise<T[]> {
  const results: Promise<T>[] = [];
  for (const volatility of volatilities) {
    const wave: Promise<T>[] = [];
    for (const collector of collectors.filter((one) => one.volatility === volatility)) {
      const result = run(collector);
      result.catch(() => {}); // Thrown below, when all have been begun.
      wave.push(result);
      await breath(); // Starting another program holds the event loop up, and the node's heartbeat is in there.
    }
    results.push(...wave);
    if (!fleeting.has(volatility)) continue;
    const patience = new AbortController();
    const impatient = delay(patienceMilliseconds, undefined, { signal: patience.signal }).catch(() => {});
    await Promise.race([Promise.allSettled(wave), impatient]);
    patience.abort();
  }
  await Promise.allSettled(results); // None of them writes any more when the directory is taken away.
  return await Promise.all(results);
}

/** Those whose path may stand in an archive and is taken by no other, also not by what is collected of another. */
function usablePaths(collectors: readonly Collector[]): ReadonlySet<Collector> {
  const taken = new Set<string>();
  return new Set(
    collectors.filter(({ path }) => {
      const folded = path.toLowerCase();
      return isMemberPath(path) && !folded.endsWith('.gz') && !taken.has(folded) && taken.add(folded);
    }),
  );
}

/** What a member that yields leaves to the others: what they are known to need, and more where there is more. */
const shareOfOthers = (room: Room | undefined): number =>
  room === undefined ? 0 : Math.max(room.others, Math.min(16 << 20, Math.floor(room.left / 4)));

const timeoutOf = (collector: Collector, options: RunOptions): number =>
  collector.timeoutMilliseconds ?? options.timeoutMilliseconds;

function growthOf({ name }: Collector, { onGrowth }: RunOptions): (bytes: number) => void {
  let told = 0;
  return (bytes) => {
    if (bytes - told < 1 << 20) return;
    told = bytes;
    onGrowth?.(name, bytes);
  };
}

async function gatherOne(
  place: Place,
  collector: Collector,
  options: CollectOptions,
  keep: number,
): Promise<Gathered> {
  const form = collector.form ?? 'text';
  const redaction = collector.redact ? options.redactor?.stream(form) : undefined;
  const canaries =
    redaction === undefined || options.redactor === undefined
      ? undefined
      : new Canaries(options.redactor, form);
  using member = new MemberFile(place, collector.path);
  using records = new MemberFile(place, recordsPath(collector.path));
  const growing = new GrowingMember(member, records, {
    room: options.room,
    keep,
    onGrowth: growthOf(collector, options),
  });
  const { counts } = growing;
  const way = wayThrough(redaction, growing);
  const survivors = new Set<string>();
  const plant = (): void => {
    if (canaries !== undefined) for (const rule of way.plant(canaries)) survivors.add(rule);
  };
  plant();
  const left = options.room === undefined ? Number.POSITIVE_INFINITY : options.room.left - keep;
  const room = left < collector.limitBytes ? Math.max(0, left) : undefined;
  const milliseconds = timeoutOf(collector, options);
  let drained = await drain(collector, milliseconds, room, way);
  plant();
  if (drained.isCut && collector.gatherLess !== undefined) {
    growing.reset();
    drained = await drain({ ...collector, gather: collector.gatherLess }, milliseconds, room, way);
    plant();
  }
  const { status, problem } = drained;
  const about: FileAbout = {
    source: collector.source,
    redactions: [...counts]
      .map(([rule, count]) => ({ rule, count }))
      .sort((a, b) => (a.rule < b.rule ? -1 : 1)),
    ...(counts.size === 0 ? {} : { redactionRecords: records.path }),
    ...(canaries === undefined ? {} : { canaries: canaries.count }),
    ...(problem === undefined ? {} : { error: problem }),
  };
  const recordsAbout = { source: `What was redacted in ${collector.path}`, redactions: [] };
  const files = [...member.finish(about, status !== 'failed'), ...records.finish(recordsAbout, false)];
  const got = `${member.size} bytes`;
  return {
    files,
    outcome: outcomeOf(collector, status, problem === undefined ? got : `${problem} (${got} kept)`),
    survivors: [...survivors].map((rule) => `${rule} in ${collector.path}`),
  };
}

/** False where there is no room. */
type Outlet = (bytes: Uint8Array, records: readonly RedactionRecord[]) => boolean;

interface WayWithCanaries extends Way {
  /** Leads planted secrets over the same way, but for the member at its end. @returns the rules that let one through. */
  plant(canaries: Canaries): readonly string[];
}

function wayThrough(redaction: RedactionStream | undefined, growing: GrowingMember): WayWithCanaries {
  const member: Outlet = (bytes, records) => growing.add(bytes, records);
  let outlet = member;
  const out = (bytes: Uint8Array): boolean => outlet(bytes, redaction?.takeRecords() ?? []);
  const way: Way = {
    feed: (bytes) => out(redaction === undefined ? bytes : redaction.write(bytes)),
    settle: () => out(redaction === undefined ? new Uint8Array() : redaction.end()),
    ready: () => growing.ready(),
    done: () => growing.done(),
  };
  return {
    ...way,
    plant: (canaries) => {
      outlet = () => true;
      way.settle(); // What a member without room has left behind.
      outlet = (bytes, records) => {
        canaries.take(bytes, records);
        return true;
      };
      way.feed(canaries.planted);
      way.settle();
      outlet = member;
      return canaries.survivors();
    },
  };
}

const outcomeOf = (
  { name, volatility }: Collector,
  status: CollectorOutcome['status'],
  detail: string,
): CollectorOutcome => ({ name, status, detail, volatility });
