import { describe, expect, it } from 'vitest';
import { plain, plainly } from '../../src/cli/output.ts';

describe('what others wrote', () => {
  it('does nothing to a terminal, wherever in a document it stands', () => {
    const report = {
      reason: 'x\u001b[2J\u001b[32mproven\u001b[8m',
      claims: [{ detail: 'a\r\nb\u009b1m', count: 3, none: null }],
    };
    expect(plainly(report)).toEqual({
      reason: 'x?[2J?[32mproven?[8m',
      claims: [{ detail: 'a??b?1m', count: 3, none: null }],
    });
  });

  it('ends no line, and turns no text that follows it', () => {
    expect(plain('a\u2028b\u2029c \u202edetpecca\u202c \u2067x\u2069 \u200f.')).toBe(
      'a?b?c ?detpecca? ?x? ?.',
    );
    expect(plain('Jörg, 東京, שלום')).toBe('Jörg, 東京, שלום');
  });
});
