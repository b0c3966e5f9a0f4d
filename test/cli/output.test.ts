import { describe, expect, it } from 'vitest';
import { plainly } from '../../src/cli/output.ts';

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
});
