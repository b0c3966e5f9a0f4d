// The courier's outbox: every delivery until it is acknowledged or dead-lettered, in SQLite (write-ahead log, synced at every
// commit), so that kill -9 and power loss at any instant lose nothing.
import { closeSync, existsSync, openSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { Failure, reasonOf } from '../host/failure.ts';
import type { Severity } from './alert.ts';
import { backoffMilliseconds, isExhausted, retryLimits } from './backoff.ts';
import type { Job } from './job.ts';
import { type Limits, toGiveUp, type WhyGivenUp } from './limits.ts';
import { isDuplicate } from './router.ts';

export type QueuedJob = Job & { readonly id: number; readonly attempts: number };
export type JobState = 'queued' | 'delivered' | 'dead-lettered';

export interface OutboxCounts {
  readonly queued: number;
  readonly deadLettered: number;
  readonly delivered: number;
}

/** One line of `alert status`; times in milliseconds since the epoch. */
export interface OutboxRow {
  readonly kind: Job['kind'];
  readonly key: string;
  /** The identifier of the channel; empty for a bundle. */
  readonly channel: string;
  readonly state: JobState;
  readonly attempts: number;
  readonly enqueued: number;
  readonly due: number;
  readonly ended: number | null;
  readonly error: string | null;
}

export interface GivenUpJob {
  readonly key: string;
  readonly channel: string;
  readonly severity: Severity;
  readonly why: WhyGivenUp;
}

export interface OutboxOptions {
  /** Uniform in [0, 1), for the jitter. Default Math.random. */
  readonly random?: () => number;
  /** How long a delivered key silences the next job of the same key. Default for ever. */
  readonly deduplicationMilliseconds?: number;
}

const schema = `
  CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('alert', 'bundle')),
    key TEXT NOT NULL,
    channel TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'delivered', 'dead-lettered')),
    attempts INTEGER NOT NULL DEFAULT 0,
    enqueued INTEGER NOT NULL,
    due INTEGER NOT NULL,
    ended INTEGER,
    error TEXT,
    UNIQUE (kind, key, channel)
  ) STRICT;
  CREATE INDEX IF NOT EXISTS job_due ON job (state, due);
`;
/** No wait is longer (an hour of Retry-After); a job due later than that was queued before the clock was set back. */
const longestWait = 3_600_000;

export class Outbox implements Disposable {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #clock: () => number;
  readonly #random: () => number;
  readonly #window: number;

  /**
   * Opens the outbox, made with mode 0600 where there is none. `clock` gives milliseconds since the epoch.
   * @throws Failure `outbox-unusable`.
   */
  constructor(path: string, clock: () => number = Date.now, options: OutboxOptions = {}) {
    this.#path = path;
    this.#clock = clock;
    this.#random = options.random ?? Math.random;
    this.#window = options.deduplicationMilliseconds ?? Number.POSITIVE_INFINITY;
    try {
      closeSync(openSync(path, 'a', 0o600)); // SQLite gives its companion files the mode of this one.
      this.#database = new DatabaseSync(path, { timeout: 5000 });
      this.#database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
      this.#database.exec(schema);
    } catch (error) {
      throw unusable(path, error);
    }
  }

  /**
   * Adds jobs, all or none, on disk when it returns. A duplicate (same kind, key and channel; see `isDuplicate`) adds nothing.
   * Returns how many were added. @throws Failure `outbox-unusable`, as all that writes here: a full disk.
   */
  enqueue(...jobs: Job[]): number {
    return this.#transaction(() => jobs.filter((job) => this.#add(job)).length);
  }

  #add(job: Job): boolean {
    const now = this.#clock();
    const channel = job.kind === 'alert' ? job.channel : '';
    const payload = JSON.stringify(job.kind === 'alert' ? job.alert : job.payload);
    const earlier = this.#database
      .prepare('SELECT id, payload, ended FROM job WHERE kind = ? AND key = ? AND channel = ?')
      .get(job.kind, job.key, channel);
    if (earlier === undefined) {
      this.#database
        .prepare('INSERT INTO job (kind, key, channel, payload, enqueued, due) VALUES (?, ?, ?, ?, ?, ?)')
        .run(job.kind, job.key, channel, payload, now, now);
      return true;
    }
    const known = {
      sameMessage: withoutTime(String(earlier.payload)) === withoutTime(payload),
      endedAt: earlier.ended === null ? undefined : Number(earlier.ended),
    };
    if (isDuplicate(known, now, this.#window)) return false;
    this.#database
      .prepare(
        `UPDATE job SET payload = ?, state = 'queued', attempts = 0, enqueued = ?, due = ?, ended = NULL, error = NULL WHERE id = ?`,
      )
      .run(payload, now, now, Number(earlier.id));
    return true;
  }

  /** The queued jobs whose time has come, the longest waiting first. */
  due(now: number): QueuedJob[] {
    return this.#database
      .prepare(`SELECT * FROM job WHERE state = 'queued' AND (due <= ? OR due > ?) ORDER BY due, id`)
      .all(now, now + longestWait)
      .map(jobOf);
  }

  /** Records an acknowledged delivery. */
  delivered(id: number): void {
    this.#database
      .prepare(
        `UPDATE job SET state = 'delivered', attempts = attempts + 1, ended = ?, error = NULL WHERE id = ? AND state = 'queued'`,
      )
      .run(this.#clock(), id);
  }

  /**
   * Records a failed attempt: the job waits for its next, or is dead-lettered (`permanent`, or its limits reached; a bundle has no
   * limits). `error` is a sentence without credentials. Returns the job's state.
   */
  failed(id: number, error: string, permanent = false, retryAfterMilliseconds = 0): JobState {
    return this.#transaction(() => {
      const row = this.#database.prepare('SELECT * FROM job WHERE id = ?').get(id);
      if (row === undefined || row.state !== 'queued') return (row?.state ?? 'queued') as JobState;
      const now = this.#clock();
      const attempts = Number(row.attempts) + 1;
      const limits = retryLimits[row.kind as Job['kind']];
      const dead = permanent || isExhausted(attempts, now - Number(row.enqueued), limits);
      const wait = Math.max(backoffMilliseconds(attempts, limits, this.#random()), retryAfterMilliseconds);
      const state: JobState = dead ? 'dead-lettered' : 'queued';
      this.#database
        .prepare('UPDATE job SET state = ?, attempts = ?, due = ?, ended = ?, error = ? WHERE id = ?')
        .run(state, attempts, now + Math.min(wait, longestWait), dead ? now : null, error, id);
      return state;
    });
  }

  /**
   * Dead-letters the alerts that go first where more waits than may, but for those `underWay`, by their id: they may be acknowledged
   * yet. Bundles are the node's to limit.
   */
  limit(limits: Limits, underWay: (id: number) => boolean = () => false): GivenUpJob[] {
    const { bytes, oldest } = this.#database
      .prepare(
        `SELECT coalesce(sum(length(payload)), 0) AS bytes, min(enqueued) AS oldest FROM job
         WHERE state = 'queued' AND kind = 'alert'`,
      )
      .get() as { bytes: number; oldest: number | null };
    const now = this.#clock();
    if (bytes <= limits.bytes && (oldest === null || now - oldest <= limits.ageMilliseconds)) return [];
    return this.#transaction(() => {
      const alerts = this.#database
        .prepare(
          `SELECT id, key, channel, enqueued, length(payload) AS bytes, json_extract(payload, '$.severity') AS severity
           FROM job WHERE state = 'queued' AND kind = 'alert'`,
        )
        .all()
        .map((row) => ({
          id: Number(row.id),
          key: String(row.key),
          channel: String(row.channel),
          bytes: Number(row.bytes),
          at: Number(row.enqueued),
          severity: row.severity as Severity,
          copied: false,
        }))
        .filter(({ id }) => !underWay(id));
      return toGiveUp(alerts, limits, now).map(({ item: { id, key, channel, severity }, why }) => {
        this.#database
          .prepare(`UPDATE job SET state = 'dead-lettered', ended = ?, error = ? WHERE id = ?`)
          .run(now, `Given up because of its ${why}, by the limits of the spool.`, id);
        return { key, channel, severity, why };
      });
    });
  }

  counts(): OutboxCounts {
    return countsOf(this.#database);
  }

  /** Every job ever taken, the newest first. */
  status(): OutboxRow[] {
    return rowsOf(this.#database);
  }

  /** Makes all queued jobs due at once. Returns how many. */
  flush(): number {
    return this.#changed(`UPDATE job SET due = 0 WHERE state = 'queued'`);
  }

  /** Makes the bundles that are queued due at once, with these fields of what was handed over in place of its own. Returns how many. */
  hastenBundles(changes: Readonly<Record<string, unknown>> = {}): number {
    return this.#changed(
      `UPDATE job SET due = 0, payload = json_patch(payload, ?) WHERE state = 'queued' AND kind = 'bundle'`,
      JSON.stringify(changes),
    );
  }

  /** Queues bundles as if for the first time, whatever became of them before; those that are queued stay as they are. Returns how many. */
  queueAgain(bundles: readonly { readonly key: string; readonly payload: unknown }[]): number {
    const now = this.#clock();
    return this.#transaction(() => {
      const again = this.#database.prepare(
        `INSERT INTO job (kind, key, channel, payload, enqueued, due) VALUES ('bundle', ?, '', ?, ?, ?)
         ON CONFLICT (kind, key, channel) DO UPDATE SET payload = excluded.payload, state = 'queued', attempts = 0,
           enqueued = excluded.enqueued, due = excluded.due, ended = NULL, error = NULL
         WHERE state <> 'queued'`,
      );
      return bundles.reduce(
        (sum, { key, payload }) => sum + Number(again.run(key, JSON.stringify(payload), now, now).changes),
        0,
      );
    });
  }

  /** Queues the dead-lettered again, with fresh limits. Returns how many. */
  retryDead(): number {
    const now = this.#clock();
    return this.#changed(
      `UPDATE job SET state = 'queued', attempts = 0, enqueued = ?, due = ?, ended = NULL WHERE state = 'dead-lettered'`,
      now,
      now,
    );
  }

  [Symbol.dispose](): void {
    if (this.#database.isOpen) this.#database.close();
  }

  #changed(statement: string, ...values: (number | string)[]): number {
    return this.#transaction(() => Number(this.#database.prepare(statement).run(...values).changes));
  }

  #transaction<T>(work: () => T): T {
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      const result = work();
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw (error as NodeJS.ErrnoException).code === 'ERR_SQLITE_ERROR'
        ? unusable(this.#path, error)
        : error;
    }
  }
}

/**
 * The counts, for `status`, while a courier may be writing. Zeros where there is no outbox yet.
 * @throws Failure `outbox-unusable`.
 */
export const readCounts = (path: string): OutboxCounts =>
  reading(path, { queued: 0, deadLettered: 0, delivered: 0 }, countsOf);

/** Every job ever taken, the newest first, while a courier may be writing. @throws Failure `outbox-unusable`. */
export const readRows = (path: string): OutboxRow[] => reading(path, [], rowsOf);

/** What was handed over of each bundle, by key. @throws Failure `outbox-unusable`. */
export const readBundles = (path: string): ReadonlyMap<string, unknown> =>
  reading(path, new Map(), (database) => {
    const rows = database.prepare(`SELECT key, payload FROM job WHERE kind = 'bundle'`).all();
    return new Map(rows.map(({ key, payload }) => [String(key), JSON.parse(String(payload))]));
  });

/** Reads a database that another process may be writing; `none` where there is nothing in it yet. */
function reading<T>(path: string, none: T, read: (database: DatabaseSync) => T): T {
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(path, { readOnly: true, timeout: 2000 });
  } catch (error) {
    if (!existsSync(path)) return none;
    throw unusable(path, error);
  }
  try {
    const made = database.prepare(`SELECT 1 FROM sqlite_schema WHERE name = 'job'`).get() !== undefined;
    return made ? read(database) : none;
  } catch (error) {
    throw unusable(path, error);
  } finally {
    database.close();
  }
}

const rowsOf = (database: DatabaseSync): OutboxRow[] =>
  database
    .prepare(
      'SELECT kind, key, channel, state, attempts, enqueued, due, ended, error FROM job ORDER BY id DESC',
    )
    .all()
    .map((row) => ({ ...row }) as unknown as OutboxRow);

function countsOf(database: DatabaseSync): OutboxCounts {
  const rows = database.prepare('SELECT state, count(*) AS number FROM job GROUP BY state').all();
  const count = (state: JobState): number => Number(rows.find((row) => row.state === state)?.number ?? 0);
  return {
    queued: count('queued'),
    deadLettered: count('dead-lettered'),
    delivered: count('delivered'),
  };
}

const withoutTime = (payload: string): string =>
  JSON.stringify(JSON.parse(payload), (name, value: unknown) => (name === 'time' ? undefined : value));

function jobOf(row: Record<string, unknown>): QueuedJob {
  const payload: unknown = JSON.parse(String(row.payload));
  const common = { id: Number(row.id), key: String(row.key), attempts: Number(row.attempts) };
  return row.kind === 'alert'
    ? {
        ...common,
        kind: 'alert',
        channel: String(row.channel),
        alert: payload as Extract<Job, { kind: 'alert' }>['alert'],
      }
    : { ...common, kind: 'bundle', payload };
}

const unusable = (path: string, cause: unknown): Failure =>
  new Failure('outbox-unusable', `The outbox ${path} cannot be used: ${reasonOf(cause)}.`, {
    kept: 'Alerts and bundles wait in the spool.',
    remedy:
      'Check its owner and the free space. If it is damaged, move it aside: the courier makes a new one.',
    cause,
  });
