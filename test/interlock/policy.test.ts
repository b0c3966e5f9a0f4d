import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { causes, isObserved } from '../../src/interlock/causes.ts';
import { consequenceOf, loadInterlockPolicy } from '../../src/interlock/policy.ts';

const shipped = resolve(import.meta.dirname, '../../policies/interlock.toml');
const directory = mkdtempSync(join(tmpdir(), 'ea-interlock-'));
afterAll(() => rmSync(directory, { recursive: true }));

function edited(edit: (text: string) => string): string {
  const path = join(directory, 'interlock.toml');
  writeFileSync(path, edit(readFileSync(shipped, 'utf8')));
  return path;
}

describe('the interlock policy as shipped', () => {
  const policy = loadInterlockPolicy(shipped);

  it('has a rule for every cause, and collects a bundle', () => {
    expect(Object.keys(policy.cause).toSorted()).toEqual(causes.toSorted());
    for (const cause of causes) {
      const { bundle, rule } = consequenceOf(policy, cause, 'relay', 'lock');
      // What is only told needs none.
      expect(bundle, cause).toBe(rule.level !== 'none');
    }
  });

  it('lets an unplanned flap cost what the node is configured for', () => {
    for (const level of ['purge', 'lock', 'destroy'] as const) {
      expect(consequenceOf(policy, 'link-flap', 'relay', level)).toMatchObject({
        level,
        severity: 'critical',
      });
    }
  });

  it('locks after an unclean end that is to lock, whatever is configured', () => {
    expect(consequenceOf(policy, 'unclean-start', 'relay', 'purge').level).toBe('lock');
  });
});

describe("an interlock policy of one's own", () => {
  it('may be patient with what is observed, or only tell it', () => {
    const policy = loadInterlockPolicy(
      edited((text) =>
        text.replace(
          '[cause.debugger-attached]\nlevel = "configured"',
          '[cause.debugger-attached]\nlevel = "none"\ndebounce_milliseconds = 70\nthreshold = 2.5',
        ),
      ),
    );
    expect(consequenceOf(policy, 'debugger-attached', 'relay', 'lock').rule).toEqual({
      level: 'none',
      debounceMilliseconds: 70,
      threshold: 2.5,
    });
  });

  it('gives roles levels of their own', () => {
    const policy = loadInterlockPolicy(
      edited((text) => text.replace('[cause.link-flap]', '[cause.link-flap]\nroles = { leaf = "destroy" }')),
    );
    expect(consequenceOf(policy, 'link-flap', 'leaf', 'lock').level).toBe('destroy');
    expect(consequenceOf(policy, 'link-flap', 'relay', 'lock').level).toBe('lock');
    // Not a role, though every object has it.
    expect(consequenceOf(policy, 'link-flap', 'constructor', 'lock').level).toBe('lock');
  });

  it.each([
    [
      'a cause without a rule',
      (text: string) => text.replace('[cause.main-lost]', '[cause.main-gone]'),
      'main-lost',
    ],
    [
      'an unknown cause',
      (text: string) => text.replace('cause.main-lost', 'cause.main-gone'),
      'did you mean `main-lost`?',
    ],
    [
      'no zeroize at all',
      (text: string) => text.replace('level = "configured"', 'level = "none"'),
      'cause.link-flap.level',
    ],
    ['an unknown key', (text: string) => `${text}patience = 5\n`, 'patience'],
    ...causes
      .filter((cause) => !isObserved(cause))
      .flatMap((cause): [string, (text: string) => string, string][] => {
        const with_ = (line: string) => (text: string) =>
          text.replace(`[cause.${cause}]\n`, `[cause.${cause}]\n${line}\n`);
        return [
          [
            `patience with ${cause}`,
            with_('debounce_milliseconds = 1'),
            `cause.${cause}.debounce_milliseconds`,
          ],
          [`a threshold for ${cause}`, with_('threshold = 2'), `cause.${cause}.threshold`],
          [
            `a role that does not wipe for ${cause}`,
            with_('roles = { leaf = "none" }'),
            `cause.${cause}.roles.leaf: expected a level that wipes: this cause cannot be told only, found "none"`,
          ],
        ];
      }),
  ])('refuses %s', (_, edit, message) => {
    expect(() => loadInterlockPolicy(edited(edit))).toThrow(message);
  });
});
