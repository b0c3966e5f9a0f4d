// `status`: of the running node, or of what its state directory tells.
import { readdirSync } from 'node:fs';
import { readCounts } from '../alerts/outbox.ts';
import { CustodyLog } from '../custody/log.ts';
import { reasonOf } from '../host/failure.ts';
import { levels, type ZeroizeLevel } from '../interlock/causes.ts';
import { readMarker } from '../interlock/marker.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import { type Asked, askedOf, askingEvents, linkKeysOf } from './asked.ts';
import { assuranceNow } from './assurance.ts';
import type { Config } from './config.ts';
import { askNode, isRunning } from './control.ts';
import { findCustody } from './custody.ts';
import type { CustodyFound } from './custody-anchor.ts';
import { zeroizeUnfinished } from './interrupted.ts';
import type { LiveState } from './live-state.ts';
import type { Node } from './node.ts';
import { type Assurance, type NodeRecord, readNodeRecord } from './node-record.ts';
import type { ProgramAppraisal } from './program.ts';
import { type StateLayout, stateLayout } from './state-layout.ts';
import { conditionOfStopped, type TpmCondition } from './tpm-condition.ts';

/** The JSON contract of `status --json` (docs/cli.md). */
export interface Status {
  readonly node: string;
  readonly state: 'unprovisioned' | 'sealed' | 'running' | 'zeroized';
  readonly assurance: Assurance | null;
  readonly links: LiveState['links'];
  readonly entropy: LiveState['entropy'] | { readonly state: 'stopped' };
  readonly interlock: LiveState['interlock'] | { readonly phase: 'stopped' };
  readonly alerts: {
    readonly queued: number;
    readonly deadLettered: number;
    readonly delivered: number;
    /** Why the outbox cannot be read, as on a full disk: then what waits in the spool is counted, and nothing else. */
    readonly trouble?: string;
  };
  /** What the last zeroize did; null where there was none since the node was armed. */
  readonly zeroize:
    | LiveState['zeroize']
    | { readonly cause: string; readonly level: ZeroizeLevel; readonly at: string }
    | null;
  /** What maintenance windows have left to be done. */
  readonly asked: readonly Asked[];
  readonly custody: {
    readonly sequence: number;
    readonly hash: string;
    /** How the running node found the whole of it; null while it has not looked, and where none runs. */
    readonly found: CustodyFound | null;
  } | null;
  /** Null without a TPM. */
  readonly tpm: TpmCondition | null;
  /** What is attested of the program, as it was found when the node started; null while none runs. */
  readonly program: ProgramAppraisal | null;
  /** Process id of the running node; null while none runs. */
  readonly pid: number | null;
}

export async function statusOf(config: Config): Promise<Status> {
  const layout = stateLayout(config.node.state_dir);
  const running = await statusOfRunning(layout);
  if (running !== undefined) return running;
  const { state: told } = new Lifecycle(layout.directory).read();
  const state = zeroizeUnfinished(layout) ? 'zeroized' : told;
  const alerts = alertCounts(layout);
  const nothing = {
    links: [],
    entropy: { state: 'stopped' } as const,
    interlock: { phase: 'stopped' } as const,
    alerts,
    program: null,
    pid: null,
  };
  if (state === 'unprovisioned') {
    return {
      node: config.node.name,
      state,
      assurance: null,
      ...nothing,
      zeroize: null,
      asked: [],
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
    zeroize: state === 'zeroized' ? lastZeroize(layout) : null,
    asked: askedOfStopped(config, layout, record),
    custody: { ...custody.head(), found: null },
    tpm: await conditionOfStopped(config, layout, record),
  };
}

/** As the node itself tells it; undefined where none runs. */
export async function statusOfRunning({ control }: StateLayout): Promise<Status | undefined> {
  return (await isRunning(control)) ? await askNode<Status>(control, 'status') : undefined;
}

/** One that was killed half-way is told by its mark alone. A level that cannot be read is as that of a state that cannot be. */
function lastZeroize({ directory }: StateLayout): Exclude<Status['zeroize'], LiveState['zeroize']> {
  const lifecycle = new Lifecycle(directory);
  const { state, cause, level, since } = lifecycle.read();
  const mark = state === 'zeroized' ? undefined : readMarker(lifecycle.path);
  return {
    cause: mark?.cause ?? cause ?? 'unknown',
    level: mark?.level ?? levels.find((known) => known === level) ?? 'lock',
    at: (mark === undefined ? since : undefined) ?? 'a time that is not known',
  };
}

/** From what a node that does not run has left; nothing where its keys are destroyed, for then all is made anew. */
export function askedOfStopped(config: Config, layout: StateLayout, { tpm }: NodeRecord): Asked[] {
  if (keysDestroyed(layout)) return [];
  const { enrolment } = layout;
  return askedOf(findCustody(config, askingEvents), {
    keys: linkKeysOf(config, layout),
    tpm: tpm !== null,
    enrolment,
  });
}

const keysDestroyed = ({ directory }: StateLayout): boolean =>
  new Lifecycle(directory).read().level === 'destroy';

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
    asked: keysDestroyed(node.layout) ? [] : node.maintenance.asked,
    custody: { ...node.custody.head(), found: node.custodyFollower.found },
    tpm,
    program: node.program,
    pid: process.pid,
  };
}

/** What lies in the spool is queued as well: the courier has not taken it yet. */
function alertCounts(layout: StateLayout): Status['alerts'] {
  const waiting = spooled(layout);
  try {
    const counts = readCounts(layout.outbox);
    return { ...counts, queued: counts.queued + waiting };
  } catch (error) {
    return { queued: waiting, deadLettered: 0, delivered: 0, trouble: reasonOf(error) };
  }
}

function spooled(layout: StateLayout): number {
  try {
    return readdirSync(layout.spool).filter((name) => name.endsWith('.json') && !name.startsWith('.')).length;
  } catch {
    return 0;
  }
}
