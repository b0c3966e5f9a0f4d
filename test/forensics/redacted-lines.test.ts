// What is kept of lines in which something was replaced: names and addresses that come again, and never a secret.
import { describe, expect, it } from 'vitest';
import { type RedactedLine, RedactedLines } from '../../src/forensics/redacted-lines.ts';

const original = Buffer.from('_HOSTNAME=alpha');
const line: RedactedLine = { original, redacted: Buffer.from('_HOSTNAME=‹host:00000000›\n'), replaced: [] };

describe('lines of which it is known what they become', () => {
  it('are those that come again', () => {
    const lines = new RedactedLines();
    expect(lines.wants(original.length, 7, ['host'])).toBe(false);
    expect(lines.wants(original.length, 7, ['host'])).toBe(true);
    lines.keep(7, line);
    const piece = Buffer.from('x\n_HOSTNAME=alpha\n_HOSTNAME=alphb\n');
    expect(lines.find(piece, 2, 17, 7)).toBe(line);
    expect(lines.find(piece, 18, 33, 7)).toBeUndefined();
    expect(lines.find(piece, 2, 17, 8)).toBeUndefined();
  });

  it.each([
    ['a credential', 20, ['credential']],
    ['a key beside a name', 20, ['host', 'key']],
    ['a kind of an added rule', 20, ['custom']],
    ['what is long', 193, ['host']],
  ])('are not those with %s', (_, length, kinds) => {
    const lines = new RedactedLines();
    for (let times = 0; times < 3; times += 1) expect(lines.wants(length, 7, kinds)).toBe(false);
  });
});
