// The rules of redaction, read from policies/redaction.toml: data, so that an auditor can read and change them.
import { readToml } from '../host/toml.ts';
import { z } from '../host/zod.ts';

const compiles = (pattern: string): boolean => {
  try {
    return !new RegExp(pattern).test('');
  } catch {
    return false;
  }
};

export const redactionPolicySchema = z.strictObject({
  rules: z.array(
    z.strictObject({
      name: z.string().regex(/^[a-z0-9-]{1,40}$/, 'a name of lower-case letters, digits and hyphens'),
      /** Shown in the pseudonym: `ip` in `‹ip:1a2b3c4d›`. */
      kind: z.string().regex(/^[a-z]{1,12}$/, 'a word of lower-case letters'),
      /** A regular expression over Latin-1 text; the group `secret`, if there is one, is what gets replaced. */
      pattern: z
        .string()
        .refine(compiles, 'a JavaScript regular expression that does not match the empty string'),
      check: z.enum(['ipv6']).optional(),
      /** What it is for, with the secret in `<<…>>`: drawn anew for each canary (canary.ts). */
      sample: z.string().regex(/^[^<>]*<<[^<>]{6,}>>[^<>]*$/, 'a text with what must be replaced in `<<…>>`'),
    }),
  ),
});

export type RedactionRule = z.infer<typeof redactionPolicySchema>['rules'][number];

/** @throws Failure `config-missing` or `config-invalid`, naming file and line. */
export const readRedactionRules = (path: string): RedactionRule[] =>
  readToml(path, redactionPolicySchema).rules;
