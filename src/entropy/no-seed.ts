// Why a pool gives nothing out: there is no seed, or none that may still serve.
import { Failure } from '../host/failure.ts';

export const notReady = (): Failure =>
  new Failure('entropy-not-ready', 'The entropy pool has not been seeded yet.', {
    kept: 'Nothing has been given out.',
    remedy: 'Try again in a moment; `esoteric-appliance pool` shows which noise sources are healthy.',
  });

export const uncredited = (): Failure =>
  new Failure(
    'entropy-uncredited',
    'The noise sources that are healthy are not credited enough for a seed.',
    {
      kept: 'Nothing has been given out.',
      remedy:
        'Choose more of them; `esoteric-appliance probe SOURCE` says what one is worth on this machine.',
    },
  );

export const outlasted = (pausedFor: string): Failure =>
  new Failure(
    'entropy-unhealthy',
    `Random output has stopped: no noise is collected (${pausedFor}), and the last seed has served as long as it may.`,
    {
      kept: 'Nothing has been given out beyond the reseed limit.',
      remedy: 'End the window with `esoteric-appliance maintenance end`: output then comes back by itself.',
    },
  );

export const unhealthy = (why = 'the noise sources have delivered no new seed in time'): Failure =>
  new Failure('entropy-unhealthy', `Random output has stopped: ${why}.`, {
    kept: 'Nothing has been given out beyond the reseed limit.',
    remedy: 'Look at the noise sources with `esoteric-appliance pool`, then restart the node.',
  });
