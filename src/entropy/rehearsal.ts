// Test doubles of failing sources, shipped: each failure that a health test or the pool has to hear can be induced in any source
// while everything else works on. What a double delivers is never noise, so it must never reach a seed.
import type { Sampler } from './source.ts';

export const inducedFailures = [
  'stuck',
  'biased',
  'repeating',
  'periodic',
  'drifting',
  'silent',
  'short',
  'throwing',
  'flooding',
  'blocking',
] as const;
/**
 * `stuck`: one value. `biased`: one value, mostly. `repeating`: runs of two values. `periodic`: seven values in a circle. `drifting`: a
 * ramp. `silent`: nothing any more. `short`: one real sample a turn (no failure). `throwing`, `flooding` (more than asked for),
 * `blocking` (for a minute, in its turn).
 */
export type InducedFailure = (typeof inducedFailures)[number];

const blockMilliseconds = 60_000;
const sliceMilliseconds = 20;
const nobodyWakes = new Int32Array(new SharedArrayBuffer(4));

/** Takes the place of `real.sample(into)`; `turn` counts up; `givenUp`: nobody waits for this turn any more. */
export function rehearse(
  failure: InducedFailure,
  real: Sampler,
  into: Uint8Array,
  turn: number,
  givenUp: () => boolean,
): number {
  switch (failure) {
    case 'stuck':
      into.fill(0x55);
      return into.length;
    case 'biased':
      for (let i = 0; i < into.length; i++) into[i] = i % 64 === 0 ? (turn + i) & 0xff : 0x55;
      return into.length;
    case 'repeating':
      for (let i = 0; i < into.length; i++) into[i] = 0x55 + ((turn + (i >> 9)) & 1);
      return into.length;
    case 'periodic':
      for (let i = 0; i < into.length; i++) into[i] = 31 * ((turn + i) % 7);
      return into.length;
    case 'drifting':
      for (let i = 0; i < into.length; i++) into[i] = (turn + 3 * i) & 0xff;
      return into.length;
    case 'silent':
      return 0;
    case 'short':
      return real.sample(into.subarray(0, 1));
    case 'throwing':
      throw new Error('the rehearsed failure of this source');
    case 'flooding':
      into.fill(0x55);
      return 2 * into.length + 1;
    case 'blocking':
      for (let waited = 0; waited < blockMilliseconds && !givenUp(); waited += sliceMilliseconds)
        Atomics.wait(nobodyWakes, 0, 0, sliceMilliseconds);
      return 0;
  }
}
