import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SecretArena } from '../../src/host/arena.ts';
import { encodeSecretBase64 } from '../../src/keys/base64.ts';

describe('base64 of a secret', () => {
  it('is what Buffer makes of the same bytes, and a newline, in the arena', () => {
    using arena = SecretArena.allocate();
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
        using secret = arena.take(bytes.length, 'secret');
        secret.bytes.set(bytes);
        using encoded = encodeSecretBase64(arena, secret);
        expect(Buffer.from(encoded.bytes).toString()).toBe(`${Buffer.from(bytes).toString('base64')}\n`);
        expect(encoded.address).toBeGreaterThanOrEqual(arena.region.address);
        expect(encoded.label).toBe('secret (base64)');
      }),
      { numRuns: 500 },
    );
  });

  it('has all 64 digits', () => {
    using arena = SecretArena.allocate();
    using secret = arena.take(48, 'digits');
    const digits = Array.from({ length: 64 }, (_, n) => n);
    secret.bytes.set(
      Array.from({ length: 16 }, (_, n) => digits.slice(n * 4, n * 4 + 4)).flatMap(
        ([a = 0, b = 0, c = 0, d = 0]) => [
          (a << 2) | (b >> 4),
          ((b & 15) << 4) | (c >> 2),
          ((c & 3) << 6) | d,
        ],
      ),
    );
    using encoded = encodeSecretBase64(arena, secret);
    expect(Buffer.from(encoded.bytes).toString()).toBe(
      'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/\n',
    );
  });

  it('is refused after a zeroize', () => {
    using arena = SecretArena.allocate();
    using secret = arena.take(32, 'secret');
    arena.wipe();
    expect(() => encodeSecretBase64(arena, secret)).toThrow(expect.objectContaining({ code: 'zeroized' }));
  });
});
