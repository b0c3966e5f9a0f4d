// The processing family: how long compression and hashing of a few hundred bytes take, in nanoseconds modulo 256: native code,
// allocation and caches, on input that changes each time.
import { hash } from 'node:crypto';
import { deflateRawSync } from 'node:zlib';
import type { NoiseSource } from '../source.ts';
import { timedSource } from './timed.ts';

const blockLength = 512;

function changingBlock(): { readonly block: Uint8Array; readonly change: () => void } {
  const block = new Uint8Array(blockLength);
  let turn = 0;
  return {
    block,
    change() {
      turn += 1;
      block[turn & (blockLength - 1)] = (turn >>> 3) & 0xff;
    },
  };
}

export const compressionTiming: NoiseSource = timedSource({
  name: 'compression-timing',
  family: 'processing',
  physical: 'allocation, caches and branches while 512 bytes are deflated',
  samplesAtOnce: 64,
  prepare() {
    const { block, change } = changingBlock();
    return {
      act() {
        change();
        deflateRawSync(block, { level: 1, memLevel: 1 });
      },
    };
  },
});

export const hashTiming: NoiseSource = timedSource({
  name: 'hash-timing',
  family: 'processing',
  physical: 'allocation, caches and vector units while 512 bytes are hashed with SHA-256',
  samplesAtOnce: 256,
  prepare() {
    const { block, change } = changingBlock();
    return {
      act() {
        change();
        hash('sha256', block, 'buffer');
      },
    };
  },
});
