// The interlock policy (policies/interlock.toml): what each cause costs on a node of each role, and how loud it is.
import { z } from 'zod';
import { readToml } from '../host/toml.ts';
import { type Cause, causes, type ZeroizeLevel } from './causes.ts';

const level = z.enum(['configured', 'purge', 'lock', 'destroy']);

const rule = z.strictObject({
  level: level.describe('How far the zeroize goes; "configured" takes interlock.level of the node'),
  roles: z
    .record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'the name of a role'), level)
    .default({})
    .describe('Other levels for nodes of these roles'),
  severity: z
    .enum(['emergency', 'alert', 'critical', 'error', 'warning'])
    .describe('Severity of the alert (RFC 5424)'),
  bundle: z.boolean().default(true).describe('Whether a forensic bundle is collected'),
});

/** Every cause has a rule: one that is missing is an error, not a default. */
export const interlockPolicySchema = z.strictObject({
  format: z.literal('esoteric-appliance-interlock/1'),
  cause: z.record(z.enum(causes), rule),
});
export type InterlockPolicy = z.output<typeof interlockPolicySchema>;

export interface Consequence {
  readonly level: ZeroizeLevel;
  readonly severity: z.output<typeof rule>['severity'];
  readonly bundle: boolean;
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
  return {
    level: wanted === 'configured' ? configured : wanted,
    severity: found.severity,
    bundle: found.bundle,
  };
}
