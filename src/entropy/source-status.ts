// How a source of a pool stands.
import type { Lanes } from './lanes.ts';
import { creditOf, type Member } from './members.ts';
import type { SourceStatus } from './status.ts';

/** `index`: of its ring; of no meaning where it is not available. */
export function sourceStatus(member: Member, index: number, lanes: Lanes): SourceStatus {
  const { source, availability, record } = member;
  const base = {
    name: source.name,
    family: source.family,
    physical: source.physical,
    credit: creditOf(member),
    assessed: record?.kind ?? 'none',
  } as const;
  if (!availability.ok) {
    const { why } = availability;
    return { ...base, state: 'unavailable', samples: 0, failures: 0, available: false, why };
  }
  const { rings } = lanes;
  const state = lanes.isLost(index) ? 'expelled' : rings.state(index);
  const why = state === 'failed' || state === 'expelled' ? lanes.why(index) : undefined;
  return {
    ...base,
    state,
    samples: rings.samples(index),
    failures: rings.failures(index),
    available: true,
    ...(why === undefined ? {} : { why }),
  };
}
