// The pool inside the node: what it tells (a journal entry for each source that fails, an alert when the pool is no longer well), a
// generator for each address that is served, and the feeding of the kernel's generator.
import type { Severity } from '../alerts/alert.ts';
import type { RandomServer, RandomSupply } from '../entropy/outputs/http.ts';
import { feedKernel } from '../entropy/outputs/kernel-feed.ts';
import type { Turns } from '../entropy/outputs/turns.ts';
import type { EntropyPool, PoolOptions } from '../entropy/pool.ts';
import type { EntropyStatus, PoolState } from '../entropy/status.ts';
import { reasonOf } from '../host/failure.ts';
import type { Announcer } from './announce.ts';

const troubles: Partial<Record<PoolState, { readonly severity: Severity; readonly title: string }>> = {
  degraded: { severity: 'warning', title: 'healthy noise no longer suffices for a new seed' },
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

function bodyOf(state: PoolState, { sources, why, pausedFor }: EntropyStatus): string {
  if (state === 'unhealthy' && pausedFor !== undefined)
    return `No noise is collected (${pausedFor}), and the last seed has served as long as it may.\nOutput comes back by itself when the window ends.`;
  const down = sources.filter(({ credit, state: now }) => credit > 0 && now !== 'healthy');
  return [
    `The pool is ${state}${why === undefined ? '' : `: ${why}`}.`,
    ...down.map(
      ({ name, state: now, why: reason }) => `${name} is ${now}${reason === undefined ? '' : `: ${reason}`}.`,
    ),
    'Look at `esoteric-appliance pool`.',
  ].join('\n');
}

/**
 * Serves at `HOST:PORT`, plain HTTP, from a generator of its own. `turns`: between all addresses. Node's HTTP takes long to load, and is
 * here where there is something to serve.
 */
export async function serveAt(listen: string, pool: EntropyPool, turns: Turns): Promise<RandomServer> {
  const colon = listen.lastIndexOf(':');
  const host = listen.slice(0, colon).replace(/^\[|\]$/g, '');
  const port = Number(listen.slice(colon + 1));
  const { randomServer } = await import('../entropy/outputs/http.ts');
  return await randomServer(supplyOf(pool, `http ${listen}`), { host, port }, turns);
}

/** A supply with a generator of its own. */
export function supplyOf(pool: EntropyPool, label: string): RandomSupply {
  const consumer = pool.consumer(label);
  return { read: (out) => consumer.read(out), status: () => pool.status() };
}

/** Feeds the kernel's generator every so many seconds; says once why it cannot, and again when that changes. */
export function kernelFeed(pool: EntropyPool, seconds: number, announcer: Announcer): Disposable {
  let told = '';
  const feed = async (): Promise<void> => {
    try {
      await feedKernel((out) => pool.readFresh(out));
      told = '';
    } catch (error) {
      const why = reasonOf(error);
      if (why !== told) announcer.note('warning', `The kernel's generator was not fed: ${why}`);
      told = why;
    }
  };
  const timer = setInterval(() => void feed(), seconds * 1000);
  void feed();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
