// Base64 (RFC 4648, section 4) from one secret to another, without a table look-up that depends on the secret and without a
// string: `wg` reads keys in this form.
import type { SecretArena, SecretBuffer } from '../host/arena.ts';

/** The encoding plus a newline, in the arena. */
export function encodeSecretBase64(arena: SecretArena, secret: SecretBuffer): SecretBuffer {
  const { bytes } = secret;
  const encoded = arena.take(Math.ceil(bytes.length / 3) * 4 + 1, `${secret.label} (base64)`);
  const out = encoded.bytes;
  let at = 0;
  for (let n = 0; n < bytes.length; n += 3) {
    const a = bytes[n] ?? 0;
    const b = bytes[n + 1] ?? 0;
    const c = bytes[n + 2] ?? 0;
    out[at++] = digit(a >> 2);
    out[at++] = digit(((a & 3) << 4) | (b >> 4));
    out[at++] = n + 1 < bytes.length ? digit(((b & 15) << 2) | (c >> 6)) : 0x3d;
    out[at++] = n + 2 < bytes.length ? digit(c & 63) : 0x3d;
  }
  out[at] = 0x0a;
  return encoded;
}

/** The character of a 6-bit value by arithmetic: each step adds the gap to the next range where the value reached it. */
function digit(value: number): number {
  let character = value + 0x41;
  character += ((25 - value) >> 8) & 6; // from 'a'
  character -= ((51 - value) >> 8) & 75; // from '0'
  character -= ((61 - value) >> 8) & 15; // '+'
  character += ((62 - value) >> 8) & 3; // '/'
  return character;
}
