// The delivery of bundles as an operator sees and hastens it: the outbox, the spool before it, and the parts already sent.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type JobState, Outbox } from '../alerts/outbox.ts';
import { Failure } from '../host/failure.ts';
import { becomeUser, findUser } from '../host/privileges.ts';
import { outboxRows } from './alerts.ts';
import type { Config } from './config.ts';
import { stateLayout } from './node-record.ts';

export interface UploadRow {
  readonly key: string;
  readonly state: JobState;
  readonly attempts: number;
  /** RFC 3339; null where none will be made. */
  readonly nextAttempt: string | null;
  /** Of the file that is under way; null where none is in parts. */
  readonly partsSent: number | null;
  readonly error: string | null;
}

export interface Uploads {
  /** The newest first. */
  readonly bundles: readonly UploadRow[];
  /** Bundles that no courier has taken from the spool yet. */
  readonly spooled: number;
}

/** @throws Failure `outbox-unusable`. */
export function uploadsOf(config: Config): Uploads {
  const layout = stateLayout(config.node.state_dir);
  const rows = outboxRows(config).filter(({ kind }) => kind === 'bundle');
  return {
    bundles: rows.map(({ key, state, attempts, due, error }) => ({
      key,
      state,
      attempts,
      nextAttempt: state === 'queued' ? new Date(due).toISOString() : null,
      partsSent: state === 'queued' ? partsSent(layout.uploads, key) : null,
      error,
    })),
    spooled: namesIn(layout.spool).filter((name) => /^\d+-\d+-\d+-bundle-.*\.json$/.test(name)).length,
  };
}

/** Makes the bundles that wait due at once. Returns how many. @throws Failure `outbox-unusable`. */
export function retryUploads(config: Config): { due: number } {
  const { outbox: path } = stateLayout(config.node.state_dir);
  // Its directory is the courier's, where root must follow no link.
  if (config.courier.user !== '' && process.geteuid?.() === 0) becomeUser(findUser(config.courier.user));
  if (!existsSync(path)) return { due: 0 };
  using outbox = new Outbox(path);
  return { due: outbox.hastenBundles() };
}

function partsSent(directory: string, key: string): number | null {
  // NODE-bundle-SEQ is the job of NODE-SEQ-UTC.tar.gz.
  const start = key.replace(/-bundle-(\d+)$/, '-$1-');
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
