import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { anchoredEvents, anchorsOf, unanchored } from '../../src/custody/anchor.ts';
import { type ChainCheck, checkChain, emptyHash, hashLine } from '../../src/custody/chain.ts';
import { anchoredSoFar } from '../lab/custody.ts';

/** A whole log of these events. */
function logOf(events: readonly string[]): ChainCheck {
  let previous = emptyHash;
  const lines = events.map((event, at) => {
    const record = { sequence: at + 1, time: '2026-11-25T00:00:00Z', event, detail: {}, previous };
    const line = canonicalize(record) ?? '';
    previous = hashLine(line);
    return `${line}\n`;
  });
  return checkChain(Buffer.from(lines.join('')));
}

const event = fc.constantFrom(...anchoredEvents, 'planned-flap', 'bundle-made', 'state-approved');

describe('the custody head in the TPM', () => {
  it('is the fold of the anchored records, as NV_Extend computes it', () => {
    const chain = logOf(['provisioned', 'planned-flap', 'started']);
    const hashes = [chain.records[1]?.previous ?? '', chain.head.hash].map((hash) =>
      Buffer.from(hash, 'hex'),
    );
    const fold = hashes.reduce<Uint8Array>(
      (held, hash) => createHash('sha256').update(held).update(hash).digest(),
      unanchored,
    );
    expect(anchorsOf(chain).map(({ sequence }) => sequence)).toEqual([1, 3]);
    expect(Buffer.compare(anchorsOf(chain).at(-1)?.value ?? new Uint8Array(), fold)).toBe(0);
  });

  it('tells how far a batch came that was cut short, wherever that was', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 20 }), (events) => {
        const chain = logOf(events);
        expect(anchoredSoFar(chain, unanchored)).toBe(0);
        for (const [at, { value }] of anchorsOf(chain).entries())
          expect(anchoredSoFar(chain, value)).toBe(at + 1);
      }),
    );
  });

  it('is explained by no log that was cut before it, or changed before it', () => {
    fc.assert(
      fc.property(fc.array(event, { minLength: 1, maxLength: 20 }), fc.nat(19), (events, at) => {
        const held = anchorsOf(logOf(events)).at(-1)?.value;
        fc.pre(held !== undefined);
        const last = anchorsOf(logOf(events)).at(-1)?.sequence ?? 0;
        const cut = logOf(events.slice(0, at % last));
        expect(anchoredSoFar(cut, held ?? unanchored)).toBeUndefined();
        const changed = logOf(events.with(at % last, 'something-else'));
        expect(anchoredSoFar(changed, held ?? unanchored)).toBeUndefined();
      }),
    );
  });

  it('begins anew where the TPM was given back', () => {
    const again = anchorsOf(logOf(['provisioned', 'started', 'deprovisioned', 'provisioned']));
    expect(again.map(({ sequence }) => sequence)).toEqual([4]);
    const chain = logOf(['provisioned', 'started', 'deprovisioned', 'provisioned']);
    const before = anchorsOf(logOf(['provisioned', 'started'])).at(-1)?.value ?? unanchored;
    expect([before, unanchored, again[0]?.value ?? before].map((held) => anchoredSoFar(chain, held))).toEqual(
      [undefined, 0, 1],
    );
  });
});
