import { createHash, createHmac, randomFillSync } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SecretArena, type SecretBuffer } from '../../src/host/arena.ts';
import {
  CtrStream,
  cleanse,
  digestInto,
  HmacSeries,
  hmacInto,
  x25519PublicKey,
} from '../../src/host/openssl.ts';

function secret(arena: SecretArena, hex: string): SecretBuffer {
  const buffer = arena.take(hex.length / 2, 'test secret');
  buffer.bytes.set(Buffer.from(hex, 'hex'));
  return buffer;
}

/** How often the bytes of `needle` lie in this process's writable memory outside the arena. */
function copiesOutside(arena: SecretArena, needle: SecretBuffer): number {
  const fd = openSync('/proc/self/mem', 'r');
  const chunk = Buffer.alloc(4 << 20);
  const overlap = needle.byteLength - 1;
  const arenaEnd = arena.region.address + BigInt(arena.region.byteLength);
  let copies = 0;
  for (const [, from = '', to = ''] of readFileSync('/proc/self/maps', 'utf8').matchAll(
    /^(\w+)-(\w+) rw/gm,
  )) {
    const end = BigInt(`0x${to}`);
    for (let at = BigInt(`0x${from}`); at < end; at += BigInt(chunk.length - overlap)) {
      if (at >= arena.region.address && at < arenaEnd) continue;
      let length = 0;
      try {
        length = readSync(fd, chunk, 0, Number(end - at < chunk.length ? end - at : chunk.length), at);
      } catch {
        continue; // A guard page, or memory given back since the list was read.
      }
      for (let found = chunk.indexOf(needle.bytes); found !== -1 && found < length; ) {
        const address = at + BigInt(found);
        if (address < arena.region.address || address >= arenaEnd) copies += 1;
        found = chunk.indexOf(needle.bytes, found + 1);
      }
      chunk.fill(0);
    }
  }
  closeSync(fd);
  return copies;
}

describe('OpenSSL in place', () => {
  it('makes the public key of RFC 7748 section 6.1', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    using alice = secret(arena, '77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a');
    expect(Buffer.from(x25519PublicKey(alice)).toString('hex')).toBe(
      '8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a',
    );
  });

  it('refuses a private key of a wrong length, and one that has been wiped', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    using short = arena.take(31, 'short');
    expect(() => x25519PublicKey(short)).toThrow(RangeError);
    using key = arena.take(32, 'key');
    arena.wipe();
    expect(() => x25519PublicKey(key)).toThrow(expect.objectContaining({ code: 'zeroized' }));
  });

  it('digests and authenticates as node:crypto does', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    const data = Buffer.from('a message of some length, longer than nothing');
    using inArena = secret(arena, data.toString('hex'));
    using key = secret(arena, '0b'.repeat(20));
    const out = new Uint8Array(64);
    for (const [name, length] of [
      ['sha256', 32],
      ['sha512', 64],
    ] as const) {
      for (const input of [data, inArena]) {
        digestInto(name, input, out);
        expect(Buffer.from(out.subarray(0, length))).toEqual(createHash(name).update(data).digest());
        hmacInto(name, key, input, out);
        expect(Buffer.from(out.subarray(0, length))).toEqual(
          createHmac(name, Buffer.alloc(20, 0x0b)).update(data).digest(),
        );
      }
    }
    digestInto('sha256', new Uint8Array(0), out);
    expect(Buffer.from(out.subarray(0, 4)).toString('hex')).toBe('e3b0c442');
    expect(() => digestInto('sha512', data, new Uint8Array(63))).toThrow(RangeError);
    expect(() => hmacInto('sha256', key, data, new Uint8Array(31))).toThrow(RangeError);
  });

  it('cleanses in place', () => {
    const bytes = new Uint8Array(100).fill(9);
    cleanse(bytes);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('keeps no copy of an AES key outside the arena after a reset', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    using key = arena.take(32, 'AES key');
    randomFillSync(key.bytes);
    using stream = new CtrStream();
    const block = new Uint8Array(64);
    stream.begin(key.address, key.address);
    stream.apply(block, block, block.length);
    expect(copiesOutside(arena, key)).toBeGreaterThan(0);
    stream.reset();
    expect(copiesOutside(arena, key)).toBe(0);
  });

  it('keeps no copy of an X25519 or HMAC key outside the arena', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    using key = arena.take(32, 'private key');
    randomFillSync(key.bytes);
    x25519PublicKey(key);
    hmacInto('sha256', key, new Uint8Array(10), new Uint8Array(32));
    expect(copiesOutside(arena, key)).toBe(0);
  });

  it('has an HMAC key outside the arena only while a series of them is under way', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    using key = arena.take(32, 'HMAC key');
    randomFillSync(key.bytes);
    const series = new HmacSeries(key);
    for (const length of [0, 1, 55, 64, 10_000]) {
      const [expected, out] = [new Uint8Array(32), new Uint8Array(32)];
      const data = Buffer.alloc(length, length);
      hmacInto('sha256', key, data, expected);
      series.into(data, out);
      expect(out).toEqual(expected);
    }
    expect(copiesOutside(arena, key)).toBeGreaterThan(0);
    expect(() => series.into(new Uint8Array(1), new Uint8Array(31))).toThrow(RangeError);
    series[Symbol.dispose]();
    expect(copiesOutside(arena, key)).toBe(0);
  });

  it('refuses a stream that has been disposed of', () => {
    const stream = new CtrStream();
    stream[Symbol.dispose]();
    stream[Symbol.dispose]();
    expect(() => stream.reset()).toThrow('disposed');
  });
});
