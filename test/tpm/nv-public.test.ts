import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Failure } from '../../src/host/failure.ts';
import {
  marshalNvPublic,
  type NvAttribute,
  type NvKind,
  nvAttribute,
  nvNameOf,
  parseNvPublic,
} from '../../src/tpm/nv-public.ts';

const kinds: NvKind[] = ['ordinary', 'counter', 'bits', 'extend', 'pinFail', 'pinPass'];
const names = Object.keys(nvAttribute) as NvAttribute[];
const areas = fc.record({
  index: fc.integer({ min: 0x01000000, max: 0x01ffffff }),
  kind: fc.constantFrom(...kinds),
  attributes: fc.subarray(names),
  authPolicy: fc.constantFrom(new Uint8Array(), new Uint8Array(32).fill(0xa5)),
  byteLength: fc.integer({ min: 0, max: 0xffff }),
});

describe('the public area of an NV index', () => {
  it('is the same after it was marshalled and parsed', () => {
    fc.assert(
      fc.property(areas, (area) => {
        expect(parseNvPublic(marshalNvPublic(area))).toEqual({ ...area, nameAlg: 'sha256' });
      }),
    );
  });

  it('has another Name for another kind, another attribute or another handle', () => {
    const counter = {
      index: 0x01800001,
      kind: 'counter',
      attributes: ['written'],
      authPolicy: new Uint8Array(),
    } as const;
    const nameOf = (change: object) =>
      Buffer.from(nvNameOf(marshalNvPublic({ ...counter, byteLength: 8, ...change }))).toString('hex');
    const different = [
      {},
      { kind: 'ordinary' },
      { attributes: [] },
      { index: 0x01800002 },
      { byteLength: 9 },
    ];
    expect(new Set(different.map(nameOf)).size).toBe(different.length);
  });

  it('is refused when it is anything else, with a failure and never a crash', () => {
    const refusals = ['tpm-structure-invalid', 'tpm-wire-truncated', 'tpm-wire-trailing'];
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          parseNvPublic(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(Failure);
          expect(refusals).toContain((error as Failure).code);
        }
      }),
    );
    const area = marshalNvPublic({
      index: 0x01800001,
      kind: 'bits',
      attributes: [],
      authPolicy: new Uint8Array(),
      byteLength: 8,
    });
    const code = (bytes: Uint8Array) => {
      try {
        return parseNvPublic(bytes).kind;
      } catch (error) {
        return (error as Failure).code;
      }
    };
    expect(code(Uint8Array.of(...area, 0))).toBe('tpm-wire-trailing');
    expect(code(area.subarray(0, -1))).toBe('tpm-wire-truncated');
    expect(code(Uint8Array.of(0x81, ...area.subarray(1)))).toBe('tpm-structure-invalid');
  });
});
