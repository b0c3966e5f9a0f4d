// The state of a running node, as `status` shows it and as a bundle carries it.
import type { EntropyStatus } from '../entropy/status.ts';
import type { Collector } from '../forensics/collect.ts';
import type { Interlock } from '../interlock/interlock.ts';
import type { WireGuardStatus } from '../links/wireguard.ts';
import type { ZeroizeSummary } from './incident.ts';
import type { Decided } from './lookout.ts';
import type { TpmCondition } from './tpm-condition.ts';

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
