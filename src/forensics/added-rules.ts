// Rules of redaction that an operator adds to those of the distribution. They are tried at once, on the samples of all: a rule that is
// found out only by a canary would stop the bundle.
import { randomBytes } from 'node:crypto';
import { readToml } from '../host/toml.ts';
import { z } from '../host/zod.ts';
import { survivorsIn } from './canary.ts';
import { caseKeyBytes } from './pseudonym.ts';
import { Redactor } from './redact.ts';
import { type RedactionRule, redactionPolicySchema } from './redaction-policy.ts';

/** Samples are drawn at random, and a pattern may find some of them only. */
const trials = 4;

/**
 * Reads what is to stand behind `shipped`.
 * @throws Failure `config-missing` or `config-invalid`, naming file and line; also for a name that is taken, for a rule that does not find
 *   its own sample, and for one that takes from another what that is to find.
 */
export function readAddedRules(path: string, shipped: readonly RedactionRule[]): RedactionRule[] {
  const schema = redactionPolicySchema.superRefine(({ rules }, context) => {
    if (context.issues.length > 0) return;
    const refuse = (at: number, key: keyof RedactionRule, message: string) =>
      context.addIssue({ code: 'custom', path: ['rules', at, key], message });
    for (const [at, rule] of rules.entries()) {
      const before = [...shipped, ...rules.slice(0, at)];
      if (before.some(({ name }) => name === rule.name)) {
        refuse(at, 'name', 'a name that no other rule has, also none of the distribution');
        return z.NEVER;
      }
      const survivors = survivorsAmong([...before, rule]);
      if (survivors.has(rule.name)) {
        refuse(at, 'sample', 'a text in which this rule finds just what stands in `<<…>>`');
        return z.NEVER;
      }
      if (survivors.size > 0) {
        refuse(at, 'pattern', `one that takes nothing from the sample of ${[...survivors].join(', ')}`);
        return z.NEVER;
      }
    }
  });
  return readToml(path, schema).rules;
}

function survivorsAmong(rules: readonly RedactionRule[]): ReadonlySet<string> {
  const redactor = new Redactor({ rules, key: randomBytes(caseKeyBytes) });
  return new Set(Array.from({ length: trials }, () => survivorsIn(redactor)).flat());
}
