// The spool: the directory where the node daemon leaves jobs for the courier. A job is a file that appears whole or not at all,
// and goes away only when the outbox has it. The two processes may run under different users.
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { ZodError } from 'zod';
import { syncDirectory } from '../host/durable.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { namesUntrusted, readUntrusted } from '../host/untrusted.ts';
import { type Severity, severities, severityCode } from './alert.ts';
import { keyOf, type SpooledJob, spooledJobSchema } from './job.ts';
import { type Limits, toGiveUp, type WhyGivenUp } from './limits.ts';

const suffix = '.json';
const maxJobBytes = 1 << 20;
const rejectedDirectory = 'rejected';
/** Files that one look at the limits takes in: the node has heartbeats to give. */
const mostFiles = 32_768;
/** What `dropJob` names an alert: when, its severity and its key. What has another name is the courier's to take or to reject. */
const alertName = /^(\d{15})-\d+-\d+-alert-([0-7])\.([A-Za-z0-9][A-Za-z0-9._:@-]{0,127})\.json$/;
/** A file half written for this long belongs to a process that was killed, and that repeats the job. */
const abandonedAfter = 3_600_000;

/**
 * Leaves a job, on disk when it returns. Root hands the file to the owner of the directory; any other user makes it readable to
 * the directory's group. `clock` gives milliseconds since the epoch; jobs are taken in its order.
 * @throws Failure `spool-unwritable`; `job-malformed`.
 */
export function dropJob(spoolDirectory: string, job: SpooledJob, clock: () => number = Date.now): void {
  const checked = spooledJobSchema.safeParse(job);
  if (!checked.success) throw malformed(sentenceOf(checked.error));
  const text = JSON.stringify(checked.data);
  if (Buffer.byteLength(text) > maxJobBytes) throw malformed(`It is larger than ${maxJobBytes} bytes.`);
  // Unique within a boot by the monotonic clock, and in order of dropping between boots by the wall clock.
  const order = `${String(clock()).padStart(15, '0')}-${String(process.hrtime.bigint()).padStart(20, '0')}`;
  const name = `${order}-${process.pid}-${job.kind}-${aboutOf(job)}${suffix}`;
  const beside = join(spoolDirectory, `.${name}.new`);
  try {
    writeForCourier(beside, text, spoolDirectory);
    renameSync(beside, join(spoolDirectory, name));
    syncDirectory(spoolDirectory);
  } catch (error) {
    rmSync(beside, { force: true });
    throw new Failure('spool-unwritable', `The job ${keyOf(job)} cannot be spooled: ${reasonOf(error)}.`, {
      kept: 'What it announces is in the custody log.',
      remedy: `Check that ${spoolDirectory} exists, has room and can be written, then repeat.`,
      cause: error,
    });
  }
}

/** An alert's severity stands in the name, so that the node, which limits what waits, opens nothing in a directory of the courier's. */
const aboutOf = (job: SpooledJob): string =>
  job.kind === 'alert' ? `${severityCode(job.alert.severity)}.${job.alert.key}` : job.key;

const malformed = (problem: string): Failure =>
  new Failure('job-malformed', `A job cannot be spooled. ${problem}`);

/** Never follows a link and never reuses a file: the directory belongs to a process with less privilege. */
function writeForCourier(path: string, text: string, spoolDirectory: string): void {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const fd = openSync(path, flags, 0o600);
  try {
    writeFileSync(fd, text);
    fchmodSync(fd, 0o640);
    const owner = statSync(spoolDirectory);
    if (process.geteuid?.() === 0) fchownSync(fd, owner.uid, owner.gid);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

export interface TakenJob {
  readonly job: SpooledJob;
  /** Removes the file; to be called once the outbox has committed the job. */
  done(): void;
}

/**
 * The jobs that lie in the spool, in the order they were dropped. A file that is no job is moved to `rejected/`, never deleted,
 * and told to `onRejected`; so is a file that cannot be read just now, which stays.
 * @throws Failure `spool-unreadable`.
 */
export function takeJobs(
  spoolDirectory: string,
  onRejected: (file: string, reason: string) => void = () => {},
): TakenJob[] {
  return jobFiles(spoolDirectory).flatMap((name) => {
    const path = join(spoolDirectory, name);
    try {
      const job = readJob(path);
      if (typeof job !== 'string') return [{ job, done: () => rmSync(path, { force: true }) }];
      setAside(spoolDirectory, name);
      onRejected(name, job);
    } catch (error) {
      onRejected(name, reasonOf(error));
    }
    return [];
  });
}

/** An alert that is not sent any more. */
export interface GivenUp {
  readonly key: string;
  readonly severity: Severity;
  readonly why: WhyGivenUp;
}

/**
 * Removes the alerts that go first where more waits for a courier than may, each when `tell` has recorded it: at the first that it
 * does not take, the rest waits. Bundles stay: their jobs are small, and go when the bundles do. @returns how many were removed.
 * @throws Failure `spool-unreadable`.
 */
export function limitSpool(
  spoolDirectory: string,
  limits: Limits,
  tell: (given: GivenUp) => boolean,
  now = Date.now(),
): number {
  const names = jobFiles(spoolDirectory, mostFiles);
  const waiting = names.flatMap((name) => {
    const [, at, code, key] = alertName.exec(name) ?? [];
    const severity = severities[Number(code)];
    if (key === undefined || severity === undefined) return [];
    const path = join(spoolDirectory, name);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    return stat?.isFile() ? [{ path, key, severity, bytes: stat.size, at: Number(at), copied: false }] : [];
  });
  const total = waiting.reduce((sum, { bytes }) => sum + bytes, 0);
  // Of more files than are looked at some go as well, whatever their size.
  const bytes = names.length < mostFiles ? limits.bytes : Math.min(limits.bytes, total - 1);
  let removed = 0;
  for (const { item, why } of toGiveUp(waiting, { ...limits, bytes }, now)) {
    if (!tell({ key: item.key, severity: item.severity, why })) break;
    rmSync(item.path, { force: true });
    removed += 1;
  }
  return removed;
}

function jobFiles(spoolDirectory: string, most = Number.POSITIVE_INFINITY): string[] {
  try {
    const names = namesUntrusted(spoolDirectory, most);
    for (const name of names.filter((candidate) => candidate.endsWith('.new'))) {
      const path = join(spoolDirectory, name);
      const touched = lstatSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
      if (Date.now() - touched > abandonedAfter) rmSync(path, { force: true });
    }
    return names.filter((name) => name.endsWith(suffix) && !name.startsWith('.')).sort();
  } catch (error) {
    throw new Failure('spool-unreadable', `The spool ${spoolDirectory} cannot be read: ${reasonOf(error)}.`, {
      kept: 'Jobs that were dropped stay there.',
      remedy: 'Check that the directory exists and belongs to the user of the courier.',
      cause: error,
    });
  }
}

/** The job, or the reason why the file is none. */
function readJob(path: string): SpooledJob | string {
  const read = readUntrusted(path, maxJobBytes);
  if ('problem' in read) return read.problem;
  const checked = spooledJobSchema.safeParse(parsed(read.text));
  return checked.success ? checked.data : sentenceOf(checked.error);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const sentenceOf = (error: ZodError): string =>
  `It is malformed: ${error.issues.map((issue) => `${issue.path.join('.') || 'job'}: ${issue.message}`).join('; ')}.`;

function setAside(spoolDirectory: string, name: string): void {
  const directory = join(spoolDirectory, rejectedDirectory);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  renameSync(join(spoolDirectory, name), join(directory, name));
}
