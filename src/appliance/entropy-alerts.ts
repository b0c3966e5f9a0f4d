// What the node tells of its pool: a journal entry for each source that fails, an alert when the pool is no longer well, and when it is
// again.
import type { Severity } from '../alerts/alert.ts';
import type { PoolOptions } from '../entropy/pool.ts';
import type { EntropyStatus, PoolState } from '../entropy/status.ts';
import type { Announcer } from './announce.ts';

const troubles: Partial<Record<PoolState, { readonly severity: Severity; readonly title: string }>> = {
  degraded: { severity: 'warning', title: 'no credited noise source is healthy' },
  unhealthy: { severity: 'critical', title: 'random output has stopped' },
};

export function poolNews(
  node: string,
  announcer: Announcer,
): Pick<PoolOptions, 'onState' | 'onSourceFailed'> {
  let troubled = 0;
  return {
    onSourceFailed: (name, why) => announcer.note('notice', `The noise source ${name} is isolated: ${why}.`),
    onState(state, status) {
      const trouble = troubles[state];
      if (trouble !== undefined) {
        troubled += 1;
        announcer.alert({
          key: `${node}-entropy-${state}-${troubled}`,
          severity: trouble.severity,
          title: `${node}: ${trouble.title}`,
          body: bodyOf(state, status),
          facts: {},
        });
      } else if (troubled > 0 && state === 'serving')
        announcer.note('notice', 'The entropy pool serves again.');
    },
  };
}

function bodyOf(state: PoolState, { sources, why }: EntropyStatus): string {
  const down = sources.filter(({ credit, state: now }) => credit > 0 && now !== 'healthy');
  return [
    `The pool is ${state}${why === undefined ? '' : `: ${why}`}.`,
    ...down.map(
      ({ name, state: now, why: reason }) => `${name} is ${now}${reason === undefined ? '' : `: ${reason}`}.`,
    ),
    'Look at `esoteric-appliance pool`.',
  ].join('\n');
}
