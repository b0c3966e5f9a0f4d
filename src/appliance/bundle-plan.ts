// What a bundle of this node holds, and how its collectors are run: for the making of one and for its rehearsal (`--dry-run`).
import type { Collector, RunOptions } from '../forensics/collect.ts';
import { hostCollectors } from '../forensics/host-state.ts';
import { softwareCollectors } from '../forensics/software.ts';
import { bundleMembers } from './bundle-members.ts';
import type { BundleRequest, EvidenceContext } from './evidence.ts';
import { nodeMembers } from './node-members.ts';
import { packageRoot } from './policies.ts';

const collectorTimeout = 60_000;

/** All but the planted secrets. */
export const membersOf = (
  context: Pick<EvidenceContext, 'config' | 'layout' | 'record' | 'keys' | 'collectors'>,
  request: BundleRequest,
): Collector[] => [
  ...bundleMembers(context, request),
  ...nodeMembers(context, context.keys),
  ...context.collectors,
  ...hostCollectors(),
  ...softwareCollectors(packageRoot),
];

/** `tell`: who is done, how many are, and how much one that takes long has read. */
export function runOptions(members: readonly Collector[], tell: (step: string) => void): RunOptions {
  let done = 0;
  const soFar = () => `${done} of ${members.length}`;
  return {
    timeoutMilliseconds: collectorTimeout,
    onProgress: ({ name, status }) => {
      done += 1;
      tell(`${soFar()}: ${name}: ${status}`);
    },
    onGrowth: (name, bytes) => tell(`${soFar()}: ${name}: ${bytes >> 20} MiB so far`),
  };
}
