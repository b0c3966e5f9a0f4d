// The state of a node, as `status` shows it and as a bundle carries it; of one that does not run, what its files tell.
import type { EntropyStatus } from '../entropy/status.ts';
import type { Collector } from '../forensics/collect.ts';
import type { Interlock } from '../interlock/interlock.ts';
import { readMarker } from '../interlock/marker.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import type { WireGuardStatus } from '../links/wireguard.ts';
import type { ZeroizeSummary } from './incident.ts';
import type { Decided } from './lookout.ts';
import type { StateLayout } from './state-layout.ts';
import type { TpmCondition } from './tpm-condition.ts';
import { readForbidden } from './windows.ts';

export interface LiveState {
  readonly links: readonly WireGuardStatus[];
  readonly entropy: EntropyStatus | null;
  readonly interlock: ReturnType<Interlock['status']> | null;
  /** What was decided about observed causes. */
  readonly observed: readonly Decided[];
  readonly zeroize: ZeroizeSummary | null;
  readonly tpm: TpmCondition | null;
}

/** Members of a bundle that only the running node can give. */
export function liveCollectors(live: () => Promise<LiveState>): Collector[] {
  const member = (name: keyof LiveState, path: string, source: string): Collector => ({
    name: `${name} state`,
    path,
    source,
    volatility: 'memory',
    limitBytes: 1 << 20,
    redact: true,
    gather: async () => `${JSON.stringify((await live())[name], null, 2)}\n`,
  });
  return [
    member('links', 'links/links.json', 'The links of this node and their handshakes'),
    member('entropy', 'entropy/entropy.json', 'Noise sources, health tests and output counters'),
    member('observed', 'links/observed.json', 'Observed causes, and what was decided about each'),
    member('tpm', 'evidence/tpm.json', 'Approval, lockout and answer of the TPM, as the node sees them'),
    member(
      'interlock',
      'links/interlock.json',
      'Watched interfaces, carrier counters, maintenance window, decisions',
    ),
  ];
}

/** In the place of what the running node would tell: that it does not run, and in which state it was left. */
export function stoppedCollectors(layout: StateLayout): Collector[] {
  const member = (name: string, path: string, source: string, tell: () => object): Collector => ({
    name,
    path,
    source: `${source}; the node does not run`,
    volatility: 'disk',
    limitBytes: 1 << 20,
    redact: true,
    gather: async () => `${JSON.stringify(tell(), null, 2)}\n`,
  });
  return [
    member('interlock state', 'links/interlock.json', 'How the interlock was left', () => {
      const lifecycle = new Lifecycle(layout.directory);
      return {
        phase: 'stopped',
        lifecycle: lifecycle.read(),
        endedUncleanly: lifecycle.endedUncleanly,
        zeroizeUnderWay: readMarker(lifecycle.path) ?? null,
        maintenanceForbidden: readForbidden(layout.forbidden) ?? null,
      };
    }),
    member('entropy state', 'entropy/entropy.json', 'Noise sources are not collected', () => ({
      state: 'stopped',
    })),
  ];
}
