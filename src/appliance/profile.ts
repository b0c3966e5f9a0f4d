// What is given to a node by its role: the profile (provisioning/ROLE.toml).

import { readToml } from '../host/toml.ts';
import { z } from '../host/zod.ts';
import { type Config, keyEntry } from './config-schema.ts';

export const profileSchema = z.strictObject({
  format: z.literal('esoteric-appliance-profile/1'),
  role: z.string().regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'a name of 1 to 32 characters from a-z, 0-9 and -'),
  description: z.string().min(1).describe('What a node of this role is for, in one sentence'),
  keys: z
    .array(keyEntry)
    .refine((keys) => new Set(keys.map(({ name }) => name)).size === keys.length, 'keys of different names')
    .describe('Keys that provision generates and seals'),
});
export type Profile = z.output<typeof profileSchema>;

/** @throws Failure `config-missing` or `config-invalid`, status 2. */
export function loadProfile(path: string): Profile {
  return readToml(path, profileSchema);
}

/** The keys that a node has: those of its profile and those of its configuration, which wins where both name one. */
export function keysOf(profile: Profile, config: Config): Profile['keys'] {
  const named = new Set(config.keys.map(({ name }) => name));
  return [...profile.keys.filter(({ name }) => !named.has(name)), ...config.keys];
}

/** The keys that a node should have: those of its profile, then those of the configuration. */
export const wantedKeys = (config: Config, profile: Profile | undefined): Profile['keys'] =>
  profile === undefined ? config.keys : keysOf(profile, config);
