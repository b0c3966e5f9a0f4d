import { createCipheriv, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { CtrDrbg } from '../../src/entropy/drbg.ts';
import { SecretArena, type SecretBuffer } from '../../src/host/arena.ts';
import { monotonicMicros } from '../../src/host/time.ts';

// CAVP drbgvectors, CTR_DRBG "AES-256 no df", COUNT = 0 of four groups: the second of two 64-byte requests is compared.
const vectors = [
  {
    group: 'no reseed, no optional input',
    entropy:
      'df5d73faa468649edda33b5cca79b0b05600419ccb7a879ddfec9db32ee494e5531b51de16a30f769262474c73bec010',
    returned:
      'd1c07cd95af8a7f11012c84ce48bb8cb87189e99d40fccb1771c619bdf82ab2280b1dc2f2581f39164f7ac0c510494b3a43c41b7db17514c87b107ae793e01c5',
  },
  {
    group: 'no reseed, personalization string and additional input',
    entropy:
      '0dd4d80062ecc0f359efbe7723020be9b88b550fe74088094069e74428395856f63eed4f5b0e7d1e006f0eaff74f638c',
    personalization:
      'd2aa2ccd4bc6537e51f6550ab6d6294547bef3e971a7f128e4436f957de9982c93ee22110b0e40ab33a7d3dfa22f599d',
    additional: [
      '0b081bab6c74d86b4a010e2ded99d14e0c9838f7c3d69afd64f1b66377d95cdcb7f6ec5358e3516034c3339ced7e1638',
      'ca818f938ae0c7f4f507e4cfec10e7baf51fe34b89a502f754d2d2be7395120fe1fb013c67ac2500b3d17b735da09a6e',
    ],
    returned:
      '6808268b13e236f642c06deba2494496e7003c937ebf6f7cb7c92104ea090f18484aa075560d7844a06eb559948c93b26ae40f2db98ecb53ad593eb4c78f82b1',
  },
  {
    group: 'reseed, no optional input',
    entropy:
      'e4bc23c5089a19d86f4119cb3fa08c0a4991e0a1def17e101e4c14d9c323460a7c2fb58e0b086c6c57b55f56cae25bad',
    reseed:
      'fd85a836bba85019881e8c6bad23c9061adc75477659acaea8e4a01dfe07a1832dad1c136f59d70f8653a5dc118663d6',
    returned:
      'b2cb8905c05e5950ca31895096be29ea3d5a3b82b269495554eb80fe07de43e193b9e7c3ece73b80e062b1c1f68202fbb1c52a040ea2478864295282234aaada',
  },
  {
    group: 'reseed, additional input',
    entropy:
      '99903165903fea49c2db26ed675e44cc14cb2c1f28b836b203240b02771e831146ffc4335373bb344688c5c950670291',
    reseed:
      'b4ee99fa9e0eddaf4a3612013cd636c4af69177b43eebb3c58a305b9979b68b5cc820504f6c029aad78a5d29c66e84a0',
    reseedAdditional:
      '2d8c5c28b05696e74774eb69a10f01c5fabc62691ddf7848a8004bb5eeb4d2c5febe1aa01f4d557b23d7e9a0e4e90655',
    additional: [
      '0dc9cde42ac6e856f01a55f219c614de90c659260948db5053d414bab0ec2e13e995120c3eb5aafc25dc4bdcef8ace24',
      '711be6c035013189f362211889248ca8a3268e63a7eb26836d915810a680ac4a33cd1180811a31a0f44f08db3dd64f91',
    ],
    returned:
      '11c7a0326ea737baa7a993d510fafee5374e7bbe17ef0e3e29f50fa68aac2124b017d449768491cac06d136d691a4e80785739f9aaedf311bba752a3268cc531',
  },
];

const hex = (text: string | undefined): Uint8Array | undefined =>
  text === undefined ? undefined : new Uint8Array(Buffer.from(text, 'hex'));

function secret(arena: SecretArena, bytes: Uint8Array): SecretBuffer {
  const buffer = arena.take(bytes.byteLength, 'test input');
  buffer.bytes.set(bytes);
  return buffer;
}

function seeded(arena: SecretArena, seed: Uint8Array): CtrDrbg {
  const drbg = new CtrDrbg(arena, monotonicMicros);
  using input = secret(arena, seed);
  drbg.instantiate(input);
  return drbg;
}

/** The standard's pseudocode on single AES blocks, sharing nothing with the implementation. */
function reference(seed: Uint8Array, requests: { length: number; additional?: Uint8Array }[]): Buffer[] {
  let key: Buffer = Buffer.alloc(32);
  let v = 0n;
  const block = (): Buffer => {
    v = (v + 1n) & ((1n << 128n) - 1n);
    const cipher = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
    return cipher.update(Buffer.from(v.toString(16).padStart(32, '0'), 'hex'));
  };
  const update = (provided: Uint8Array): void => {
    const temp = Buffer.concat([block(), block(), block()]).map((byte, i) => byte ^ (provided[i] ?? 0));
    key = Buffer.from(temp.subarray(0, 32));
    v = BigInt(`0x${Buffer.from(temp.subarray(32)).toString('hex')}`);
  };
  update(seed);
  return requests.map(({ length, additional }) => {
    if (additional !== undefined) update(additional);
    const blocks: Buffer[] = [];
    for (let made = 0; made < length; made += 16) blocks.push(block());
    update(additional ?? new Uint8Array(48));
    return Buffer.concat(blocks).subarray(0, length);
  });
}

describe('CTR_DRBG', () => {
  it.each(vectors)('gives the published CAVP output: $group', (vector) => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    using drbg = new CtrDrbg(arena, monotonicMicros);
    drbg.instantiate(secret(arena, hex(vector.entropy) ?? new Uint8Array()), hex(vector.personalization));
    const reseed = hex(vector.reseed);
    if (reseed !== undefined) drbg.reseed(secret(arena, reseed), hex(vector.reseedAdditional));
    const out = new Uint8Array(64);
    drbg.generate(out, hex(vector.additional?.[0]));
    drbg.generate(out, hex(vector.additional?.[1]));
    expect(Buffer.from(out).toString('hex')).toBe(vector.returned);
  });

  it('agrees with the standard computed block by block, for lengths that end inside a block', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    const seed = randomBytes(48);
    seed.fill(0xff, 32);
    using drbg = seeded(arena, seed);
    const requests = [1, 15, 16, 17, 48, 1000, 4096].map((length, i) => ({
      length,
      ...(i % 2 === 0 ? {} : { additional: randomBytes(7 * i) }),
    }));
    const expected = reference(seed, requests);
    for (const [i, { length, additional }] of requests.entries()) {
      const out = new Uint8Array(length);
      drbg.generate(out, additional);
      expect(Buffer.from(out)).toEqual(expected[i]);
    }
  });

  it('answers a large request as a row of 64 KiB requests', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    const seed = randomBytes(48);
    using whole = seeded(arena, seed);
    using parts = seeded(arena, seed);
    const large = new Uint8Array(200_000);
    whole.generate(large);
    const row = [65_536, 65_536, 65_536, 3_392].map((length) => {
      const out = new Uint8Array(length);
      parts.generate(out);
      return out;
    });
    expect(Buffer.from(large).equals(Buffer.concat(row))).toBe(true);
    expect(whole.requests).toBe(4);
    expect(whole.bytesOut).toBe(200_000);
  });

  it('refuses before it is seeded', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    using drbg = new CtrDrbg(arena, monotonicMicros);
    const refusal = expect.objectContaining({ code: 'drbg-not-seeded' });
    expect(() => drbg.generate(new Uint8Array(1))).toThrow(refusal);
    expect(() => drbg.reseed(arena.take(48, 'seed'))).toThrow(refusal);
    expect(drbg.age).toBe(Number.POSITIVE_INFINITY);
  });

  it('stops at its reseed limits, by count and by time, and goes on after a reseed', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    let now = 0;
    using drbg = new CtrDrbg(arena, () => now, { requests: 2, micros: 1000 });
    const out = new Uint8Array(8);
    const seed = secret(arena, randomBytes(48));
    const exhausted = expect.objectContaining({ code: 'drbg-exhausted' });
    drbg.instantiate(seed);
    drbg.generate(out);
    drbg.generate(out);
    expect(() => drbg.generate(out)).toThrow(exhausted);
    drbg.reseed(seed);
    drbg.generate(out);
    now = 1000;
    expect(() => drbg.generate(out)).toThrow(exhausted);
    expect([...out]).toEqual(new Array(8).fill(0));
  });

  it('refuses inputs of a wrong length', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    using drbg = seeded(arena, randomBytes(48));
    expect(() => drbg.instantiate(arena.take(47, 'short'))).toThrow(RangeError);
    expect(() => drbg.generate(new Uint8Array(1), new Uint8Array(49))).toThrow(RangeError);
  });

  it('releases nothing after a zeroize that came in the middle, and keeps no key', () => {
    using arena = SecretArena.allocate({ allowSwappable: true });
    // The clock is read within the request: a wipe there stands for one by another thread at that instant.
    let reads = 0;
    const drbg = new CtrDrbg(arena, () => {
      reads += 1;
      if (reads === 3) arena.wipe();
      return 0;
    });
    drbg.instantiate(secret(arena, randomBytes(48)));
    const out = new Uint8Array(100_000).fill(7);
    drbg.generate(out.subarray(0, 16));
    expect(() => drbg.generate(out)).toThrow(expect.objectContaining({ code: 'zeroized' }));
    expect(out.every((byte) => byte === 0)).toBe(true);
    drbg[Symbol.dispose]();
  });
});
