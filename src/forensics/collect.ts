// Collects the members of a bundle into a directory. A collector that fails, hangs or floods is recorded and never stops
// the others: what can be had is taken, and what is missing is said.
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { reasonOf } from '../host/failure.ts';
import { Canaries, refuseSurvivors } from './canary.ts';
import { type CollectorOutcome, isMemberPath, type ManifestFile } from './format.ts';
import {
  type RedactionForm,
  type RedactionRecord,
  type RedactionStream,
  type Redactor,
  replacements,
} from './redact.ts';

export interface Collector {
  /** Shown in progress and manifest. */
  readonly name: string;
  /** Of the member, such as `journal/entries.export`; portable ASCII, at most 99 characters. */
  readonly path: string;
  /** What is read and why, as the manifest tells it. */
  readonly source: string;
  /** More than this is cut off and the cut recorded. */
  readonly limitBytes: number;
  /** The custody log is never redacted; what is made of text from elsewhere is. */
  readonly redact: boolean;
  /** Text unless said: a journal is redacted field by field. */
  readonly form?: RedactionForm;
  /** Called once. `signal` is aborted when the time is up; what was given until then is kept. */
  gather(signal: AbortSignal): Promise<Uint8Array | string> | AsyncIterable<Uint8Array | string>;
}

export interface CollectOptions {
  /** For each collector; they run at the same time. */
  readonly timeoutMilliseconds: number;
  /** Undefined: nothing is redacted. */
  readonly redactor?: Redactor;
  readonly onProgress?: (outcome: CollectorOutcome) => void;
}

export interface Collected {
  /** For the manifest, sorted by path; records of redaction included. */
  readonly files: ManifestFile[];
  /** In the order of the collectors. */
  readonly collectors: CollectorOutcome[];
}

interface Gathered {
  readonly files: readonly ManifestFile[];
  readonly outcome: CollectorOutcome;
  /** Rules that let a planted secret through. */
  readonly survivors?: readonly string[];
}

/**
 * Runs all collectors. Never rejects for what a collector does; only for a directory that cannot be written to.
 * @throws Failure `canary-survived` when all have ended and a redactor let a planted secret through.
 */
export async function collectInto(
  directory: string,
  collectors: readonly Collector[],
  options: CollectOptions,
): Promise<Collected> {
  const paths = new Set<string>();
  const gathered = await Promise.all(
    collectors.map(async (collector): Promise<Gathered> => {
      const one: Gathered =
        isMemberPath(collector.path) &&
        !paths.has(collector.path.toLowerCase()) &&
        paths.add(collector.path.toLowerCase())
          ? await gatherOne(directory, collector, options)
          : {
              files: [],
              outcome: outcomeOf(collector, 'failed', `Its path ${collector.path} is not usable.`),
            };
      options.onProgress?.(one.outcome);
      return one;
    }),
  );
  refuseSurvivors(
    gathered.flatMap(({ survivors = [] }, at) =>
      survivors.map((rule) => `${rule} in ${collectors[at]?.path}`),
    ),
    `What was collected is in ${directory}, and has to stay on the node; where bundles are to be encrypted it is removed.`,
  );
  return {
    files: gathered.flatMap(({ files }) => files).sort((a, b) => (a.path < b.path ? -1 : 1)),
    collectors: gathered.map(({ outcome }) => outcome),
  };
}

async function gatherOne(
  directory: string,
  collector: Collector,
  options: CollectOptions,
): Promise<Gathered> {
  const form = collector.form ?? 'text';
  const redaction = collector.redact ? options.redactor?.stream(form) : undefined;
  const canaries =
    redaction === undefined || options.redactor === undefined
      ? undefined
      : new Canaries(options.redactor, form);
  const member = new MemberFile(directory, collector.path);
  const records = new MemberFile(directory, recordsPath(collector.path));
  const counts = new Map<string, number>();
  const keep: Outlet = (bytes, replaced) => {
    member.write(bytes);
    for (const record of replaced) {
      counts.set(record.rule, (counts.get(record.rule) ?? 0) + replacements(record));
      records.write(`${JSON.stringify(record)}\n`);
    }
  };
  const way = wayThrough(redaction, keep);
  const survivors = new Set(canaries === undefined ? [] : way.plant(canaries));
  const { status, problem } = await drain(collector, options.timeoutMilliseconds, way);
  if (canaries !== undefined) for (const rule of way.plant(canaries)) survivors.add(rule);
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
    survivors: [...survivors],
  };
}

type Outlet = (bytes: Uint8Array, records: readonly RedactionRecord[]) => void;

/** The way of every byte from a collector to its member. */
interface Way {
  feed(bytes: Uint8Array): void;
  /** What was held back goes out; what is fed next is another text. */
  settle(): void;
  /** Leads planted secrets over the same way, but for the member at its end. @returns the rules that let one through. */
  plant(canaries: Canaries): readonly string[];
}

function wayThrough(redaction: RedactionStream | undefined, keep: Outlet): Way {
  let outlet = keep;
  const out = (bytes: Uint8Array): void => outlet(bytes, redaction?.takeRecords() ?? []);
  const way: Way = {
    feed: (bytes) => out(redaction === undefined ? bytes : redaction.write(bytes)),
    settle: () => out(redaction === undefined ? new Uint8Array() : redaction.end()),
    plant: (canaries) => {
      outlet = (bytes, records) => canaries.take(bytes, records);
      way.feed(canaries.planted);
      way.settle();
      outlet = keep;
      return canaries.survivors();
    },
  };
  return way;
}

/** Takes what the collector gives until its end, its limit, its failure or the end of its time. */
async function drain(
  collector: Collector,
  timeoutMilliseconds: number,
  way: Way,
): Promise<{ status: CollectorOutcome['status']; problem?: string }> {
  const timeUp = new AbortController();
  const late = Symbol('late');
  const ended = new AbortController();
  const timer = delay(timeoutMilliseconds, late, { signal: ended.signal, ref: true }).catch(() => late);
  let left = collector.limitBytes;
  let problem: string | undefined;
  let status: CollectorOutcome['status'] = 'ok';
  try {
    const iterator = chunksOf(collector, timeUp.signal);
    for (;;) {
      const step = await Promise.race([iterator.next(), timer]);
      if (typeof step === 'symbol') {
        void iterator.return(undefined).catch(() => undefined);
        throw new Error(`it did not end within ${timeoutMilliseconds} ms`);
      }
      if (step.done) break;
      const chunk = typeof step.value === 'string' ? Buffer.from(step.value) : step.value;
      const part = chunk.subarray(0, left);
      left -= part.length;
      way.feed(part);
      if (part.length < chunk.length) {
        status = 'truncated';
        problem = `It was cut off at its limit of ${collector.limitBytes} bytes.`;
        void iterator.return(undefined).catch(() => undefined);
        break;
      }
    }
  } catch (error) {
    status = 'failed';
    problem = `It failed: ${reasonOf(error)}`.replace(/\.?$/, '.');
  } finally {
    timeUp.abort();
    ended.abort();
  }
  way.settle();
  if (status === 'ok' && left === collector.limitBytes) status = 'empty';
  return problem === undefined ? { status } : { status, problem };
}

async function* chunksOf(collector: Collector, signal: AbortSignal): AsyncGenerator<Uint8Array | string> {
  const given = collector.gather(signal);
  if (Symbol.asyncIterator in given) yield* given;
  else yield await given;
}

const outcomeOf = (
  { name }: Collector,
  status: CollectorOutcome['status'],
  detail: string,
): CollectorOutcome => ({ name, status, detail });

/** Where the redactions of a member are recorded, one JSON object a line. */
export const recordsPath = (path: string): string => `redaction/${path}.jsonl`;

type FileAbout = Pick<ManifestFile, 'source' | 'redactions' | 'redactionRecords' | 'canaries' | 'error'>;

/** A member as it is written: made at the first byte, hashed as it grows. */
class MemberFile {
  readonly path: string;
  readonly #file: string;
  readonly #hash = createHash('sha256');
  #fd: number | undefined;
  size = 0;

  constructor(directory: string, path: string) {
    this.path = path;
    this.#file = join(directory, path);
  }

  write(content: Uint8Array | string): void {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content;
    if (bytes.length === 0) return;
    const fd = this.#open();
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    this.#hash.update(bytes);
    this.size += bytes.length;
  }

  /** Its entry for the manifest; none where nothing was written, unless an empty file says something. */
  finish(about: FileAbout, evenEmpty: boolean): ManifestFile[] {
    if (this.size === 0 && !evenEmpty) return [];
    closeSync(this.#open());
    this.#fd = undefined;
    return [{ ...about, path: this.path, size: this.size, sha256: this.#hash.digest('hex') }];
  }

  #open(): number {
    if (this.#fd !== undefined) return this.#fd;
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    rmSync(this.#file, { force: true });
    this.#fd = openSync(this.#file, 'wx', 0o600);
    return this.#fd;
  }
}
