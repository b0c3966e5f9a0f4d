// A grade for the whole pool, with what it rests on: so that a glance says whether to look closer.
import type { EntropyStatus, SourceStatus } from './status.ts';

export type Letter = 'A' | 'B' | 'C' | 'D' | 'F';

export interface Grade {
  readonly letter: Letter;
  /** As sentences: what keeps it from being better, or why it is the best. */
  readonly because: readonly string[];
}

/** So many families of credited sources make one family's failure bearable. */
const goodFamilies = 3;
const bearableFamilies = 2;

export function gradeOf(status: EntropyStatus): Grade {
  if (!['serving', 'paused', 'degraded'].includes(status.state)) {
    return { letter: 'F', because: [`Nothing is given out: the pool is ${status.state}.`] };
  }
  const credited = status.sources.filter(({ credit }) => credit > 0);
  const healthy = credited.filter(({ state }) => state === 'healthy');
  if (status.state === 'degraded' || healthy.length === 0) {
    return {
      letter: 'D',
      because: [
        'Output goes on from the last seed alone: what is healthy of the credited sources does not suffice for another.',
      ],
    };
  }
  const families = new Set(healthy.map(({ family }) => family));
  const counted = `${healthy.length} credited sources of ${families.size} families are healthy.`;
  if (families.size < bearableFamilies)
    return { letter: 'C', because: [counted, 'One more family would bear a failure.'] };
  const wanting = [
    ...(families.size < goodFamilies ? [`${goodFamilies} families would be better.`] : []),
    ...listed(
      'is out of order',
      credited.filter(({ state }) => state === 'failed' || state === 'expelled'),
    ),
    ...listed(
      'has been assessed in brief only (`probe` does it in full)',
      credited.filter(({ assessed }) => assessed === 'brief'),
    ),
  ];
  return wanting.length === 0
    ? { letter: 'A', because: [counted, 'All were assessed in full on this machine.'] }
    : { letter: 'B', because: [counted, ...wanting] };
}

function listed(what: string, sources: readonly SourceStatus[]): string[] {
  if (sources.length === 0) return [];
  const names = sources.map(({ name }) => name);
  const shown =
    names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ');
  return [`${shown}: ${what}.`];
}
