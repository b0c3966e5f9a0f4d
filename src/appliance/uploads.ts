// The delivery of bundles as an operator sees and hastens it: the outbox, the spool before it, and the parts already sent.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type JobState, Outbox, type OutboxRow, readBundles } from '../alerts/outbox.ts';
import { parseUploadUrl } from '../forensics/upload-target.ts';
import { Failure } from '../host/failure.ts';
import { isLoopback } from '../host/loopback.ts';
import { becomeUser, findUser } from '../host/privileges.ts';
import { outboxRows } from './alerts.ts';
import { whereSent } from './archive-sent.ts';
import { type BundleJob, uploadOf } from './bundle-job.ts';
import type { Config } from './config.ts';
import { findCustody } from './custody.ts';
import { bundleDelivered } from './receipts.ts';
import { stateLayout } from './state-layout.ts';
import { heldBundles, jobAgain } from './undelivered.ts';

export interface UploadRow {
  readonly key: string;
  readonly state: JobState;
  /** Where it goes, without parameters; null where only signatures are fetched for it, or that is past. */
  readonly target: string | null;
  readonly attempts: number;
  /** RFC 3339; null where none will be made. */
  readonly nextAttempt: string | null;
  /** Of the file that is under way; null where none is in parts. */
  readonly partsSent: number | null;
  /** Where its archive lies already, while its signature file waits to be countersigned; null otherwise. */
  readonly archiveAt: string | null;
  readonly error: string | null;
  /** As the custody log has it, by the courier's word; null where it does not tell, or not yet. */
  readonly delivered: { readonly where: string; readonly at: string; readonly record: number } | null;
  /** Delivered, and the receipt lies ready: a node that runs, or collects, takes it into its custody log. */
  readonly receiptWaits: boolean;
}

export interface Uploads {
  /** Where bundles go, without parameters: a directory of this node where nothing is configured. */
  readonly target: string;
  /** Whoever is on the way there reads them: no TLS, and not encrypted to anybody. */
  readonly inClear: boolean;
  /** Null while all that was tried got through. */
  readonly stuck: Stuck | null;
  /** The newest first. */
  readonly bundles: readonly UploadRow[];
  /** Bundles that no courier has taken from the spool yet. */
  readonly spooled: number;
}

/** Bundles that wait although they were tried. */
export interface Stuck {
  readonly bundles: number;
  /** RFC 3339: since when the first of them waits. */
  readonly since: string;
  /** What was in the way of the last attempt. */
  readonly why: string;
}

/** @throws Failure `outbox-unusable`. */
export function uploadsOf(config: Config): Uploads {
  const layout = stateLayout(config.node.state_dir);
  const rows = outboxRows(config).filter(({ kind }) => kind === 'bundle');
  const receipts = receiptsIn(config);
  const waiting = new Set(namesIn(layout.receipts));
  const jobs = rows.length === 0 ? new Map() : readBundles(layout.outbox);
  return {
    target: uploadTarget(config),
    inClear: goInClear(config),
    stuck: stuckOf(rows),
    bundles: rows.map(({ key, state, attempts, due, error }) => ({
      key,
      state,
      target: state === 'queued' ? targetOf(config, jobs.get(key)) : null,
      attempts,
      nextAttempt: state === 'queued' ? new Date(due).toISOString() : null,
      partsSent: state === 'queued' ? partsSent(layout.uploads, key) : null,
      archiveAt: state === 'queued' ? whereSent(layout.uploads, namesIn(layout.uploads), startOf(key)) : null,
      error,
      delivered: receipts.get(Number(/\d+$/.exec(key)?.[0])) ?? null,
      receiptWaits: waiting.has(`delivered-${key}.json`),
    })),
    spooled: namesIn(layout.spool).filter((name) => /^\d+-\d+-\d+-bundle-.*\.json$/.test(name)).length,
  };
}

/** Without an upload, bundles stay where they are made, and that is where they are delivered to. */
export const uploadTarget = ({ forensics, node }: Config): string =>
  forensics.upload === ''
    ? pathToFileURL(stateLayout(node.state_dir).bundles).href
    : withoutParameters(forensics.upload);

const withoutParameters = (url: string): string => url.replace(/\?.*/s, '');

function targetOf(config: Config, job: Pick<BundleJob, 'upload' | 'configured'>): string | null {
  const upload = uploadOf(config, job);
  return upload === '' ? null : withoutParameters(upload);
}

/** Requests are signed, so nothing is altered on the way; but they are read, and with them a session token. */
export function goInClear({ forensics }: Config): boolean {
  if (forensics.upload === '' || forensics.recipients.length > 0) return false;
  const target = parseUploadUrl(forensics.upload);
  const endpoint = target.kind === 's3' && target.endpoint !== undefined ? URL.parse(target.endpoint) : null;
  return endpoint?.protocol === 'http:' && !isLoopback(endpoint.hostname.replace(/^\[|\]$/g, ''));
}

/** Of all that the outbox holds. */
export function stuckOf(rows: readonly OutboxRow[]): Stuck | null {
  const tried = rows.filter(
    ({ kind, state, attempts }) => kind === 'bundle' && state === 'queued' && attempts > 0,
  );
  const [last] = tried.toSorted((a, b) => b.due - a.due);
  if (last === undefined) return null;
  const since = Math.min(...tried.map(({ enqueued }) => enqueued));
  return { bundles: tried.length, since: new Date(since).toISOString(), why: last.error ?? '' };
}

/** By the number of the bundle. */
function receiptsIn(config: Config): Map<number, NonNullable<UploadRow['delivered']>> {
  if (!existsSync(stateLayout(config.node.state_dir).custody)) return new Map();
  const delivered = findCustody(config, [bundleDelivered]);
  return new Map(
    delivered.map(({ sequence: record, detail }) => [
      Number(detail.sequence),
      { where: String(detail.where), at: String(detail.at), record },
    ]),
  );
}

/**
 * Makes the bundles that wait due at once, and has them go to `elsewhere` where that is given; `all` queues again what lies on the node
 * and did not come where the configuration has it go, or all that lies there to go `elsewhere`. Returns how many.
 * @throws Failure `upload-url-invalid`, `outbox-unusable`; with `all`, `unprovisioned`.
 */
export function retryUploads(
  config: Config,
  { elsewhere, all = false }: { readonly elsewhere?: string | undefined; readonly all?: boolean } = {},
): { due: number } {
  if (elsewhere !== undefined) parseUploadUrl(elsewhere);
  const layout = stateLayout(config.node.state_dir);
  // As who asks: the custody log is not for the courier's user.
  const held = all ? heldBundles(config, layout) : [];
  // Its directory is the courier's, where root must follow no link.
  if (config.courier.user !== '' && process.geteuid?.() === 0) becomeUser(findUser(config.courier.user));
  if (!existsSync(layout.outbox) && held.length === 0) return { due: 0 };
  using outbox = new Outbox(layout.outbox);
  const due = outbox.hastenBundles(elsewhere === undefined ? {} : { upload: elsewhere, configured: false });
  if (held.length === 0) return { due };
  const jobs = readBundles(layout.outbox) as ReadonlyMap<string, BundleJob>;
  const again = held.flatMap((bundle) => {
    const payload = jobAgain(config, bundle, jobs.get(bundle.key), elsewhere);
    return payload === undefined ? [] : [{ key: bundle.key, payload }];
  });
  return { due: due + outbox.queueAgain(again) };
}

/** NODE-bundle-SEQ is the job of NODE-SEQ-UTC.tar.gz. */
const startOf = (key: string): string => key.replace(/-bundle-(\d+)$/, '-$1-');

function partsSent(directory: string, key: string): number | null {
  const start = startOf(key);
  const name = namesIn(directory).find((file) => file.startsWith(start) && file.endsWith('.parts.json'));
  if (name === undefined) return null;
  try {
    const { parts } = JSON.parse(readFileSync(join(directory, name), 'utf8')) as { parts?: unknown };
    return Array.isArray(parts) ? parts.length : null;
  } catch {
    return null;
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [];
    throw new Failure('uploads-unreadable', `${directory} cannot be read (${code}).`, {
      remedy: 'Ask as root, or as the user that the courier runs as.',
    });
  }
}
