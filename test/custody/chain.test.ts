// The chain check: whatever is changed in a log, it shows; what is cut off at its end shows against a known head.
import canonicalize from 'canonicalize';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type CustodyRecord,
  checkChain,
  checkRollback,
  emptyHash,
  emptyHead,
  hashLine,
} from '../../src/custody/chain.ts';

function lines(count: number): string[] {
  const made: string[] = [];
  for (let sequence = 1; sequence <= count; sequence += 1) {
    const last = made.at(-1);
    const record: CustodyRecord = {
      sequence,
      time: '2026-11-20T16:30:00.000Z',
      event: `event-${sequence}`,
      detail: { sequence },
      previous: last === undefined ? emptyHash : hashLine(last),
    };
    made.push(canonicalize(record) ?? '');
  }
  return made;
}
const bytesOf = (list: string[]) => Buffer.from(list.map((line) => `${line}\n`).join(''));

describe('a custody chain', () => {
  it('is whole as written', () => {
    const made = lines(5);
    const chain = checkChain(bytesOf(made));
    expect(chain).toMatchObject({ ok: true, head: { sequence: 5, hash: hashLine(made.at(-1) ?? '') } });
    expect(chain.problem).toBeUndefined();
    expect(checkChain(new Uint8Array())).toEqual({ ok: true, records: [], head: emptyHead });
  });

  it('shows any changed byte, by itself or against the head', () => {
    const whole = bytesOf(lines(3));
    const head = checkChain(whole).head;
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: whole.length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        (at, flip) => {
          const changed = Buffer.from(whole);
          changed[at] = (changed[at] ?? 0) ^ flip;
          const chain = checkChain(changed);
          expect(chain.ok && checkRollback(chain, head).ok).toBe(false);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('names the first broken line and why', () => {
    const [first = '', second = '', third = ''] = lines(3);
    const problem = (...list: string[]) => checkChain(bytesOf(list)).problem;
    expect(problem(first, third)).toMatch(/Line 2 .* its sequence is 3, expected 2/);
    expect(problem(first, second.replace('event-2', 'event-x'), third)).toMatch(/Line 3 .* hash of the line/);
    expect(problem(first, 'not json')).toMatch(/Line 2 .* not JSON/);
    expect(problem(first, '')).toMatch(/Line 2/);
    expect(problem(`${first} `)).toMatch(/canonical/);
    expect(problem(first.replace('{"detail"', '{"another":1,"detail"'))).toMatch(/canonical/);
    expect(problem('[]')).toMatch(/not a custody record/);
    expect(problem('null')).toMatch(/not a custody record/);
    expect(problem(first.replace('event-1', '\\ud800'))).toMatch(/canonical/);
    expect(checkChain(bytesOf([first, second]).subarray(0, -1)).problem).toMatch(/Line 2 .* torn/);
    expect(checkChain(Buffer.from([0xff, 0x0a])).problem).toMatch(/UTF-8/);
  });

  it('keeps the records before the broken line', () => {
    const [first = ''] = lines(1);
    const chain = checkChain(bytesOf([first, '{}']));
    expect(chain.records).toHaveLength(1);
    expect(chain.head).toEqual({ sequence: 1, hash: hashLine(first) });
  });
});

describe('a head held elsewhere', () => {
  it('is found in a chain that grew since', () => {
    const made = lines(4);
    const chain = checkChain(bytesOf(made));
    made.forEach((line, index) => {
      expect(checkRollback(chain, { sequence: index + 1, hash: hashLine(line) })).toEqual({ ok: true });
    });
  });

  it('shows a chain that was cut or rewritten', () => {
    const made = lines(4);
    const known = checkChain(bytesOf(made)).head;
    expect(checkRollback(checkChain(bytesOf(made.slice(0, 3))), known).problem).toMatch(
      /ends at record 3, but record 4/,
    );
    expect(checkRollback(checkChain(bytesOf(made)), { sequence: 2, hash: 'f'.repeat(64) }).problem).toMatch(
      /Record 2 .* not the one/,
    );
  });
});
