// The outbox as an operator reads it.
import { existsSync } from 'node:fs';
import { type OutboxRow, readRows } from '../alerts/outbox.ts';
import type { Config } from './config.ts';
import { stateLayout } from './state-layout.ts';

/** Every delivery, the newest first; none where no courier has run yet. */
export function outboxRows(config: Config): OutboxRow[] {
  const { outbox } = stateLayout(config.node.state_dir);
  return existsSync(outbox) ? readRows(outbox) : [];
}
