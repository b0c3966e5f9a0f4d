import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { plain, plainly, reportFailure, table } from '../../src/cli/output.ts';

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

describe('a table', () => {
  const rows = [
    ['a', 'proven', 'one two three four five six'],
    ['longer', 'no', `see /${'x'.repeat(40)} there`],
    ['c', '', '\u001b[33mcoloured words are left as they are, however long\u001b[39m'],
  ];
  it('is as wide as it is in a pipe', () => {
    expect(table(rows)[0]).toBe('a       proven  one two three four five six');
  });
  it('goes on below its last column at the right edge of a terminal, and breaks no word', () => {
    expect(table(rows, 41)).toEqual([
      'a       proven  one two three four five',
      '                six',
      'longer  no      see',
      `                /${'x'.repeat(40)}`,
      '                there',
      'c               \u001b[33mcoloured words are left as they are, however long\u001b[39m',
    ]);
    expect(table(rows, 39)).toEqual(table(rows));
  });
});

describe('a failure', () => {
  afterEach(() => vi.restoreAllMocks());
  const reported = (thrown: unknown): string => {
    const written: string[] = [];
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => written.push(String(text)) > 0);
    expect(reportFailure(thrown, false)).toBe(1);
    return written.join('');
  };

  it('of the file system for want of rights is the caller’s affair, and no mistake of the program', () => {
    const denied = Object.assign(new Error("EACCES: permission denied, open '/s/state.json'"), {
      code: 'EACCES',
    });
    expect(reported(denied)).toMatch(/rights that you do not have: EACCES.*\nnext {3}Repeat the command as/);
  });

  it('for want of room is no mistake of the program either', () => {
    using full = { fd: openSync('/dev/full', 'w'), [Symbol.dispose]: () => closeSync(full.fd) };
    try {
      writeSync(full.fd, 'x');
    } catch (error) {
      expect(reported(error)).toMatch(/no room left where this is written: ENOSPC.*\nnext {3}Make room/);
    }
    expect.assertions(2);
  });

  it('that nobody expected asks to be reported', () => {
    try {
      readFileSync('/nonexistent');
    } catch (error) {
      expect(reported(error)).toContain('Something unexpected happened');
    }
  });
});
