// In from journald: entries as journalctl prints them, binary-safe and complete.
import { type ChildProcess, spawn } from 'node:child_process';
import { addAbortListener } from 'node:events';
import { closeSync } from 'node:fs';
import { requireChild, runChild } from '../host/child.ts';
import { chunksOf } from '../host/chunks.ts';
import { Failure } from '../host/failure.ts';
import { pipeEnds, widen } from '../host/pipe-ends.ts';

/** Which journal; the machine's own, of its default namespace, unless told. journalctl heeds no namespace beside the others. */
export interface JournalPlace {
  readonly namespace?: string;
  /**
   * Journal files under these directories. Of one, journalctl passes over a file that is broken and says so; of several, it refuses
   * them all for it.
   */
  readonly directories?: readonly string[];
  /** One journal file. */
  readonly file?: string;
}

export interface JournalSelection extends JournalPlace {
  /** From here on: a Date, RFC 3339, or what journalctl(1) understands ("-1h", "yesterday"). */
  readonly since?: Date | string;
  readonly until?: Date | string;
  readonly units?: readonly string[];
  /** `FIELD=VALUE`, of which `+` separates alternatives; beside what the others choose. */
  readonly matches?: readonly string[];
  /** A boot ID or an offset from the current boot ("0", "-1"). */
  readonly boot?: string;
  /** At most this many, the newest. */
  readonly lines?: number;
}

export interface JournalQuery extends JournalSelection {
  readonly signal?: AbortSignal;
  /** Default 300,000. journalctl is killed after it. */
  readonly timeoutMilliseconds?: number;
}

/** As much as journalctl writes at a time, see `widely`, and a pipe holds. */
const chunkBytes = 1 << 18;

/**
 * Streams what journalctl prints in the Journal Export Format (export.ts), at the reader's pace, oldest entry first. Ending the iteration early ends journalctl.
 * A chunk is good until the next is asked for.
 * @throws Failure `journal-unavailable` when there is no journalctl or no journal to read; `journal-failed` with what
 *   journalctl said; `journal-timeout`; the signal's reason when aborted.
 */
export async function* readJournal(query: JournalQuery): AsyncGenerator<Uint8Array, void, void> {
  query.signal?.throwIfAborted();
  const selection = journalArguments(query);
  const args = ['--no-pager', '--all', '--output=export', ...selection];
  const [program = '', ...before] = [...(await widely()), 'journalctl'];
  const { child, output } = intoPipe(program, [...before, ...args]);
  const ended = Promise.withResolvers<{ status: number | null; missing?: Error }>();
  child.once('error', (error) => ended.resolve({ status: null, missing: error }));
  child.once('close', (status) => ended.resolve({ status }));
  let complaint = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    if (complaint.length < 4096) complaint += chunk.toString('utf8');
  });

  const limit = query.timeoutMilliseconds ?? 300_000;
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, limit);
  using _abort = query.signal && addAbortListener(query.signal, () => child.kill('SIGKILL'));
  let size = 0;
  try {
    for await (const chunk of chunksOf(output, chunkBytes)) {
      size += chunk.length;
      yield chunk;
    }
    const { status, missing } = await ended.promise;
    query.signal?.throwIfAborted();
    if (missing !== undefined || (before.length > 0 && status === notFound))
      throw unavailable('journalctl is not installed', missing);
    if (timedOut)
      throw new Failure('journal-timeout', `journalctl did not end within ${limit} ms and was killed.`);
    if (status !== 0) throw failed(status, complaint);
  } finally {
    clearTimeout(timer);
    child.kill('SIGKILL');
    await ended.promise;
  }
  // No entry and no journal look alike in journalctl's answer, but not to an auditor.
  if (size === 0 && !(await journalExists(query))) throw unavailable('there is no journal to read');
}

/** Starts a program that writes into a pipe; `output` is its other end. @throws TypeError for an argument with a zero byte. */
function intoPipe(
  program: string,
  args: readonly string[],
): { readonly child: ChildProcess; readonly output: number } {
  const ends = pipeEnds();
  widen(ends);
  try {
    const child = spawn(program, args, { stdio: ['ignore', ends.writeEnd, 'pipe'], env: cLocale() });
    return { child, output: ends.readEnd };
  } catch (error) {
    closeSync(ends.readEnd);
    throw error;
  } finally {
    closeSync(ends.writeEnd);
  }
}

/** With this status stdbuf(1) tells that there is no program of that name. */
const notFound = 127;
let wide: Promise<readonly string[]> | undefined;

/**
 * What has a program write 64 KiB at a time, in front of its name: journalctl writes 4 KiB, and so many small ones take longer to read than
 * all that is made of them. Nothing where that cannot be had: stdbuf is of the GNU coreutils, and goes with their C library.
 */
function widely(): Promise<readonly string[]> {
  const words = ['stdbuf', '--output=65536'];
  wide ??= runChild('stdbuf', [...words.slice(1), 'true']).then(
    ({ status, stderr }) => (status === 0 && stderr === '' ? words : []),
    () => [],
  );
  return wide;
}

const journalExists = async (query: JournalQuery): Promise<boolean> => (await headersOf(query)) !== '';

/** What journalctl tells of each journal file; nothing where there is no journal. */
async function headersOf(query: JournalQuery): Promise<string> {
  const args = ['--no-pager', '--header', ...placeArguments(query)];
  return (await runChild('journalctl', args, { env: cLocale() })).stdout.toString();
}

/**
 * The names that machines had which logged there, whatever the selection; from the index of the journal, so that its size hardly
 * matters.
 * @throws Failure `program-missing`, `program-failed`, `program-timeout`, `program-flooded`.
 */
export async function journalHosts(place: JournalPlace): Promise<string[]> {
  const args = ['--no-pager', '--field=_HOSTNAME', ...placeArguments(place)];
  const { stdout } = await requireChild('journalctl', args, { env: cLocale(), outputLimit: 1 << 20 });
  return stdout.toString().split('\n').filter(Boolean);
}

/** Every value sits behind its own `--option=`, so that none can be read as an option. */
export function journalArguments(selection: JournalSelection): string[] {
  const { since, until, units, boot, lines, matches = [] } = selection;
  return [
    ...placeArguments(selection),
    ...(since === undefined ? [] : [`--since=${timeArgument(since)}`]),
    ...(until === undefined ? [] : [`--until=${timeArgument(until)}`]),
    ...(units ?? []).map((unit) => `--unit=${unit}`),
    ...(boot === undefined ? [] : [`--boot=${boot}`]),
    ...(lines === undefined ? [] : [`--lines=${lines}`]),
    ...matches,
  ];
}

/** --directory counts once, its last; --file takes patterns, and each of them counts. */
function placeArguments({ namespace, directories = [], file }: JournalPlace): string[] {
  const [only, ...more] = directories;
  return [
    ...(namespace === undefined ? [] : [`--namespace=${namespace}`]),
    ...(only === undefined || more.length > 0 ? [] : [`--directory=${only}`]),
    ...(more.length === 0
      ? []
      : directories.map((directory) => `--file=${literally(directory)}/*.journal{,~}`)),
    ...(file === undefined ? [] : [`--file=${literally(file)}`]),
  ];
}

/** As a pattern of glob(3) with braces. */
const literally = (path: string): string => path.replace(/[\\*?[\]{},]/g, '\\$&');

/** journalctl before systemd 255 does not read RFC 3339, every one reads `@seconds.fraction`. */
function timeArgument(time: Date | string): string {
  if (typeof time === 'string' && !/^\d{4}-\d\d-\d\dT.*(?:Z|[+-]\d\d:\d\d)$/i.test(time)) return time;
  const milliseconds = new Date(time).getTime();
  return Number.isNaN(milliseconds) ? String(time) : `@${(milliseconds / 1000).toFixed(3)}`;
}

const cLocale = (): NodeJS.ProcessEnv => ({ ...process.env, LC_ALL: 'C', SYSTEMD_COLORS: '0' });

function unavailable(why: string, cause?: Error): Failure {
  return new Failure('journal-unavailable', `The journal cannot be read: ${why}.`, {
    kept: 'Nothing was changed; other evidence is collected without the journal.',
    remedy:
      'Install systemd and let systemd-journald run, or name the journal with --journal-path; as a user, join the group systemd-journal.',
    cause,
  });
}

function failed(status: number | null, complaint: string): Failure {
  const said = complaint.trim().split('\n').slice(-3).join('; ') || 'nothing';
  return new Failure('journal-failed', `journalctl ended with ${status ?? 'a signal'} and said: ${said}`, {
    remedy: 'Correct the times, units, boot or path of the selection, then repeat the command.',
  });
}
