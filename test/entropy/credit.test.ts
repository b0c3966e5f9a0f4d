import { describe, expect, it } from 'vitest';
import { noiseSources } from '../../src/entropy/catalogue.ts';
import { loadCreditPolicy, parseCreditPolicy } from '../../src/entropy/credit.ts';

const refusal = (text: string): string => {
  try {
    parseCreditPolicy(text, 'policy.toml');
  } catch (error) {
    expect(error).toMatchObject({ code: 'policy-invalid', status: 2 });
    return (error as Error).message;
  }
  throw new Error('the policy was accepted');
};

describe('the credit policy', () => {
  it('that is shipped names every source there is, with a reason, and credits no unassessed one', () => {
    const policy = loadCreditPolicy();
    const kinds = noiseSources({
      directory: '/tmp',
      devices: ['/dev/x'],
      serialLines: ['/dev/y'],
      interfaces: ['CPU'],
    }).map(({ name }) => name.split(':')[0]);
    expect([...policy.keys()].sort()).toEqual(kinds.sort());
    for (const name of ['kernel-counters', 'hwrng']) expect(policy.get(name)?.credit).toBe(0);
    for (const [, entry] of policy) {
      expect(entry.credit).toBeLessThanOrEqual(0.25);
      expect(entry.expected).toBeGreaterThanOrEqual(entry.credit);
      expect(entry.reason.length).toBeGreaterThan(10);
    }
  });

  it('is read with its numbers', () => {
    const policy = parseCreditPolicy(
      '[source.a]\ncredit = 0.1\nreason = "r"\nmeasured = "m"\n[source.b]\ncredit = 0\nassumed = 1\nreason = "r"\n',
      'policy.toml',
    );
    expect(policy.get('a')).toEqual({ credit: 0.1, expected: 0.1, reason: 'r', measured: 'm' });
    expect(policy.get('b')).toEqual({ credit: 0, expected: 1, reason: 'r', measured: undefined });
  });

  it.each([
    ['credit without the origin of the number', '[source.a]\ncredit = 1\nreason = "r"', 'needs "measured"'],
    ['no credit and nothing assumed', '[source.a]\ncredit = 0\nreason = "r"', 'needs "assumed"'],
    [
      'an expectation below the credit',
      '[source.a]\ncredit = 1\nassumed = 0.5\nreason = "r"\nmeasured = "m"',
      'below',
    ],
    ['more bits than a byte has', '[source.a]\ncredit = 9\nreason = "r"', 'from 0 to 8'],
    [
      'an assumption that is no number',
      '[source.a]\ncredit = 0\nassumed = "x"\nreason = "r"',
      '"assumed" is not',
    ],
    ['a credit without a reason', '[source.a]\ncredit = 0\nassumed = 1', '"reason" is missing'],
    [
      'a measurement that is no text',
      '[source.a]\ncredit = 0\nassumed = 1\nreason = "r"\nmeasured = 3',
      '"measured"',
    ],
    ['an unknown key', '[source.a]\ncredits = 0\n', '"credits" is not a known key'],
    ['an unknown table', '[sources.a]\ncredit = 0\n', '"sources" is not a known key'],
    ['a source that is no table', 'source.a = 1', 'source.a: is not a table'],
    ['nothing', '', 'the table "source" is missing'],
    ['what is not TOML', '[source', 'policy.toml'],
  ])('is refused with %s', (_, text, message) => {
    expect(refusal(text)).toContain(message);
  });

  it('that is missing is refused by its name', () => {
    expect(() => loadCreditPolicy('/nonexistent/entropy.toml')).toThrow(
      expect.objectContaining({ code: 'policy-invalid', message: expect.stringContaining('/nonexistent/') }),
    );
  });
});
