// What changed in the collection of noise between two looks, as events. Pure.
import type { EntropyStatus, PoolState } from '../entropy/status.ts';
import type { EventName } from '../journal/events.ts';

type Happened = readonly [EventName, string, Readonly<Record<string, unknown>>];

const low = (state: PoolState | undefined): boolean => state === 'degraded' || state === 'unhealthy';

export function entropyEvents(before: EntropyStatus | undefined, now: EntropyStatus): Happened[] {
  const happened: Happened[] = [];
  const { state } = now;
  if (low(state) && before?.state !== state)
    happened.push([
      'ENTROPY_LOW',
      `Entropy is ${state}: healthy credited noise does not suffice for a new seed.`,
      { state },
    ]);
  if (low(before?.state) && (state === 'serving' || state === 'paused'))
    happened.push(['ENTROPY_BACK', 'Credited noise is collected again.', { state }]);
  for (const source of now.sources) {
    const known = before?.sources.find(({ name }) => name === source.name)?.failures ?? 0;
    if (source.failures <= known) continue;
    const { name, failures } = source;
    happened.push([
      'HEALTH_FAILED',
      `Noise source ${name}: ${failures} failures of health tests so far, ${source.state}.`,
      { source: name, failures, state: source.state },
    ]);
  }
  return happened;
}
