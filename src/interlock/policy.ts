// The interlock policy (policies/interlock.toml): what each cause costs on a node of each role, and how loud it is.

import { readToml } from '../host/toml.ts';
import { z } from '../host/zod.ts';
import { type Cause, causes, isObserved, type ZeroizeLevel } from './causes.ts';
import type { Rule } from './evaluate.ts';

const level = z.enum(['configured', 'purge', 'lock', 'destroy', 'none']);

const rule = z.strictObject({
  level: level.describe(
    'How far the zeroize goes; "configured" takes interlock.level of the node; "none" tells only, and is for observed causes',
  ),
  roles: z
    .record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'the name of a role'), level)
    .default({})
    .describe('Other levels for nodes of these roles'),
  debounce_milliseconds: z
    .int()
    .min(0)
    .max(3_600_000)
    .default(0)
    .describe('How long an observed cause must last before it counts; no carrier is waited for'),
  threshold: z
    .number()
    .positive()
    .default(1)
    .describe('The least value of an observed cause that counts: failures, frames, seconds, a confidence'),
  severity: z
    .enum(['emergency', 'alert', 'critical', 'error', 'warning'])
    .describe('Severity of the alert (RFC 5424)'),
  bundle: z.boolean().default(true).describe('Whether a forensic bundle is collected'),
});

/** Every cause has a rule: one that is missing is an error, not a default. */
export const interlockPolicySchema = z
  .strictObject({
    format: z.literal('esoteric-appliance-interlock/1'),
    cause: z.record(z.enum(causes), rule),
  })
  .superRefine(({ cause }, context) => {
    for (const name of causes) {
      const given = cause[name];
      if (given === undefined || isObserved(name)) continue;
      const refuse = (key: string | readonly string[], message: string): void =>
        context.addIssue({ code: 'custom', path: ['cause', name, ...[key].flat()], message });
      if (given.debounce_milliseconds > 0)
        refuse('debounce_milliseconds', 'no debounce: this cause counts at once');
      if (given.threshold !== 1) refuse('threshold', 'no threshold: this cause counts at once');
      const wipes = 'a level that wipes: this cause cannot be told only';
      if (given.level === 'none') refuse('level', wipes);
      for (const [role, at] of Object.entries(given.roles)) if (at === 'none') refuse(['roles', role], wipes);
    }
  });
export type InterlockPolicy = z.output<typeof interlockPolicySchema>;

export interface Consequence {
  /** Of a cause that is only told, what a zeroize for it would cost if somebody asked for one. */
  readonly level: ZeroizeLevel;
  readonly severity: z.output<typeof rule>['severity'];
  readonly bundle: boolean;
  readonly rule: Rule;
}

/** @throws Failure `config-missing` or `config-invalid`, status 2. */
export function loadInterlockPolicy(path: string): InterlockPolicy {
  return readToml(path, interlockPolicySchema);
}

/** What `cause` costs on a node of `role` whose configuration says `configured`. */
export function consequenceOf(
  policy: InterlockPolicy,
  cause: Cause,
  role: string,
  configured: ZeroizeLevel,
): Consequence {
  const found = policy.cause[cause];
  const wanted = Object.hasOwn(found.roles, role) ? (found.roles[role] ?? found.level) : found.level;
  const level = wanted === 'configured' ? configured : wanted;
  return {
    level: level === 'none' ? 'purge' : level,
    severity: found.severity,
    bundle: found.bundle,
    rule: { level, debounceMilliseconds: found.debounce_milliseconds, threshold: found.threshold },
  };
}
