// The custody head in the TPM: the hashes of certain records are extended into an NV index, in the order of the log. Which ones
// follows from the log alone, so the log needs no record of its own about it, and a batch that a kill cut short is completed
// later. Wear: one extension a start, a stop, a bundle and a security event. Pure. NV_Extend: TPM 2.0 Library, Part 3, 31.9.
import { createHash } from 'node:crypto';
import type { ChainCheck } from './chain.ts';
import { hashOf } from './chain.ts';

/** Events whose records are extended. */
export const anchoredEvents: ReadonlySet<string> = new Set([
  'provisioned',
  're-armed',
  'started',
  'bundle-begun',
  'zeroized',
  'zeroize-deepened',
  'zeroize-interrupted',
  'zeroize-finished',
  'stopped',
]);

export interface Anchor {
  readonly sequence: number;
  /** SHA-256 of the record's line: what is extended. */
  readonly hash: Uint8Array;
  /** What the index holds after it. */
  readonly value: Uint8Array;
}

/** What an index holds before the first extension. */
export const unanchored: Uint8Array = new Uint8Array(32);

/**
 * The extensions that a log asks for since the node's TPM was last given to it: a `deprovisioned` node begins with a new index.
 */
export function anchorsOf(chain: ChainCheck): Anchor[] {
  const anchors: Anchor[] = [];
  let value = unanchored;
  for (const { sequence, event } of chain.records) {
    if (event === 'deprovisioned') {
      anchors.length = 0;
      value = unanchored;
    }
    if (!anchoredEvents.has(event)) continue;
    const hash = Buffer.from(hashOf(chain, sequence) ?? '', 'hex');
    value = createHash('sha256').update(value).update(hash).digest();
    anchors.push({ sequence, hash, value });
  }
  return anchors;
}

/** How many of the extensions the index has had; undefined where it holds something that the log does not explain. */
export function anchoredSoFar(anchors: readonly Anchor[], held: Uint8Array): number | undefined {
  const values = [unanchored, ...anchors.map(({ value }) => value)];
  const at = values.findLastIndex((value) => Buffer.compare(value, held) === 0);
  return at === -1 ? undefined : at;
}
