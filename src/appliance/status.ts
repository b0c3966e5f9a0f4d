// `status`: of the running node, or of what its state directory tells.
import { readdirSync } from 'node:fs';
import { readCounts } from '../alerts/outbox.ts';
import { CustodyLog } from '../custody/log.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import { assuranceNow } from './assurance.ts';
import type { Config } from './config.ts';
import { askNode, isRunning } from './control.ts';
import { zeroizeUnfinished } from './interrupted.ts';
import type { LiveState } from './live-state.ts';
import type { Node } from './node.ts';
import { type Assurance, readNodeRecord, type StateLayout, stateLayout } from './node-record.ts';
import { conditionOfStopped, type TpmCondition } from './tpm-condition.ts';

/** The JSON contract of `status --json` (docs/cli.md). */
export interface Status {
  readonly node: string;
  readonly state: 'unprovisioned' | 'sealed' | 'running' | 'zeroized';
  readonly assurance: Assurance | null;
  readonly links: LiveState['links'];
  readonly entropy: LiveState['entropy'] | { readonly state: 'stopped' };
  readonly interlock: LiveState['interlock'] | { readonly phase: 'stopped' };
  readonly alerts: { readonly queued: number; readonly deadLettered: number; readonly delivered: number };
  /** What the last zeroize did; null where there was none since the node was armed. */
  readonly zeroize: LiveState['zeroize'] | { readonly cause: string; readonly at: string } | null;
  readonly custody: { readonly sequence: number; readonly hash: string } | null;
  /** Null without a TPM. */
  readonly tpm: TpmCondition | null;
  /** Process id of the running node; null while none runs. */
  readonly pid: number | null;
}

export async function statusOf(config: Config): Promise<Status> {
  const layout = stateLayout(config.node.state_dir);
  if (await isRunning(layout.control)) return await askNode<Status>(layout.control, 'status');
  const { state: told, cause, since } = new Lifecycle(layout.directory).read();
  const state = zeroizeUnfinished(layout) ? 'zeroized' : told;
  const alerts = alertCounts(layout);
  const nothing = {
    links: [],
    entropy: { state: 'stopped' } as const,
    interlock: { phase: 'stopped' } as const,
    alerts,
    pid: null,
  };
  if (state === 'unprovisioned') {
    return {
      node: config.node.name,
      state,
      assurance: null,
      ...nothing,
      zeroize: null,
      custody: null,
      tpm: null,
    };
  }
  const record = readNodeRecord(layout);
  using custody = CustodyLog.open(layout.custody);
  return {
    node: record.node,
    state,
    assurance: assuranceNow(config, record),
    ...nothing,
    zeroize: state === 'zeroized' ? { cause: cause ?? 'unknown', at: since ?? '' } : null,
    custody: custody.head(),
    tpm: await conditionOfStopped(config, layout, record),
  };
}

/** Of this process's node. */
export async function liveStatus(node: Node): Promise<Status> {
  const { links, entropy, interlock, zeroize, tpm } = await node.live();
  return {
    node: node.record.node,
    state: node.zeroized ? 'zeroized' : 'running',
    assurance: node.record.assurance,
    links,
    entropy,
    interlock,
    alerts: alertCounts(node.layout),
    zeroize,
    custody: node.custody.head(),
    tpm,
    pid: process.pid,
  };
}

/** What lies in the spool is queued as well: the courier has not taken it yet. */
function alertCounts(layout: StateLayout): Status['alerts'] {
  const counts = readCounts(layout.outbox);
  return { ...counts, queued: counts.queued + spooled(layout) };
}

function spooled(layout: StateLayout): number {
  try {
    return readdirSync(layout.spool).filter((name) => name.endsWith('.json') && !name.startsWith('.')).length;
  } catch {
    return 0;
  }
}
