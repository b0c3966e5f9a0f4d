// The kinds of values in the configuration file, each with the words in which an error tells what it must be.
import { z } from '../host/zod.ts';

export const label = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'a name of 1 to 32 characters from a-z, 0-9 and -');
export const interfaceName = z
  .string()
  .regex(/^(?!\.{1,2}$)[^\s/:]{1,15}$/, 'an interface name of at most 15 characters');
export const absolutePath = z.string().startsWith('/', 'an absolute path');
export const pathOrNone = z.union(
  [z.literal(''), z.string().startsWith('/', 'an absolute path, or "" for none')],
  'an absolute path, or "" for none',
);
export const milliseconds = z.int().min(1).max(3_600_000);
export const handle = (low: number, high: number) => z.int().min(low).max(high);
export const cidr = z.union(
  [z.cidrv4(), z.cidrv6()],
  'an address with its prefix length, such as 10.66.0.1/24',
);
export const hostAndPort = z
  .string()
  .regex(
    /^(\[[0-9a-fA-F:.]+\]|[^\s:[\]/]+):([0-9]{1,5})$/,
    'host:port, such as 192.0.2.7:51820 or [2001:db8::7]:51820',
  )
  .refine((text) => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, 'a port of at most 65535');
const httpUrl = 'an http:// or https:// URL without a secret, or "" for none';
export const httpUrlOrNone = z.union(
  [z.literal(''), z.url({ protocol: /^https?$/, error: httpUrl }).refine(hasNoSecret, httpUrl)],
  httpUrl,
);

/** Rules between keys are checked although single keys are wrong, so that all problems are listed at once. */
export const isTable = ({ value }: { value: unknown }): boolean =>
  typeof value === 'object' && value !== null;

/** Neither `user:password@` nor a parameter that is named like a secret. */
export function hasNoSecret(url: string): boolean {
  return !/^[a-z0-9+.-]+:\/\/[^/?#]*:[^/?#]*@|[?&][^=&]*(secret|token|passw|key)[^=&]*=/i.test(url);
}
