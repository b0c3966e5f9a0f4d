// The custody head in the TPM: the hashes of certain records are extended into an NV index, in the order of the log. Which ones
// follows from the log alone, so the log needs no record of its own about it, and a batch that a kill cut short is completed
// later. Wear: one extension a start, a stop, a bundle and a security event. Pure. NV_Extend: TPM 2.0 Library, Part 3, 31.9.
import { createHash } from 'node:crypto';
import type { ChainCheck, CustodyHead, CustodyRecord } from './chain.ts';
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
    value = extended(value, hash);
    anchors.push({ sequence, hash, value });
  }
  return anchors;
}

const extended = (value: Uint8Array, hash: Uint8Array): Uint8Array =>
  createHash('sha256').update(value).update(hash).digest();

/** What a log asks for, held against an index that holds a certain value. */
export interface Standing {
  /** The last record whose hash is to be extended; null where there is none. */
  readonly last: CustodyHead | null;
  /** What the index holds when all are extended, hex. */
  readonly value: string;
  /** The last of the records that the index has had, null for none yet; undefined where the log does not explain what it holds. */
  readonly followed: CustodyHead | null | undefined;
  /** What the index has not had, where the log explains what it holds. */
  readonly pending: readonly CustodyHead[];
}

/** Takes the records one by one and keeps none that the index has had: a log of years asks for hundreds of thousands. */
export class StandingWalk {
  readonly #held: string | undefined;
  #last: CustodyHead | null;
  #value: Uint8Array;
  #followed: CustodyHead | null | undefined;
  #pending: CustodyHead[] = [];

  /** `held`: what the index holds, where that is of interest. `before`: of the records before the first that is noted. */
  constructor(held: Uint8Array | undefined, before?: Pick<Standing, 'last' | 'value'>) {
    this.#held = held === undefined ? undefined : Buffer.from(held).toString('hex');
    this.#last = before?.last ?? null;
    this.#value = before === undefined ? unanchored : Buffer.from(before.value, 'hex');
    this.#compare();
  }

  /** The next record, and the SHA-256 in hex of its line. */
  note({ sequence, event }: Pick<CustodyRecord, 'sequence' | 'event'>, hash: string): void {
    if (event === 'deprovisioned') {
      this.#last = null;
      this.#value = unanchored;
      this.#followed = undefined;
      this.#pending = [];
      this.#compare();
    }
    if (!anchoredEvents.has(event)) return;
    this.#last = { sequence, hash };
    this.#value = extended(this.#value, Buffer.from(hash, 'hex'));
    if (this.#followed !== undefined) this.#pending.push(this.#last);
    this.#compare();
  }

  get standing(): Standing {
    return {
      last: this.#last,
      value: Buffer.from(this.#value).toString('hex'),
      followed: this.#followed,
      pending: this.#pending,
    };
  }

  #compare(): void {
    if (this.#held === undefined || Buffer.from(this.#value).toString('hex') !== this.#held) return;
    this.#followed = this.#last;
    this.#pending = [];
  }
}
