// The silicon family: what caches, DRAM, page tables and the branch predictor do to accesses that are chosen to disturb them.
import { Failure } from '../../host/failure.ts';
import { errno, errnoName, madvise, mmap, munmap, viewMemory } from '../../host/libc.ts';
import type { NoiseSource } from '../source.ts';
import { timedSource } from './timed.ts';

/** Written once, or every page would be the one shared page of zeros and the accesses would stay in the cache. */
const written = (words: number): Uint32Array => new Uint32Array(words).fill(0x9e37_79b9);

const dramWords = 8 << 20; // 32 MiB, beyond the caches of most machines
const rowWords = (8 << 10) / 4; // 8 KiB: a common row of DRAM

export const dramRowBuffer: NoiseSource = timedSource({
  name: 'dram-row-buffer',
  family: 'silicon',
  physical: 'row hits, row conflicts and refresh of DRAM: alternating rows of one bank, over 32 MiB',
  prepare() {
    let memory = written(dramWords);
    let row = 1;
    return {
      act() {
        row = (Math.imul(row, 1_664_525) + 1_013_904_223) >>> 0;
        const at = (row >>> 9) & (dramWords - 1);
        const far = (at + 17 * rowWords) & (dramWords - 1);
        memory[at] = (memory[at] ?? 0) + (memory[far] ?? 0);
        memory[far] = (memory[far] ?? 0) ^ row;
      },
      release() {
        memory = new Uint32Array(0);
      },
    };
  },
});

const cacheWords = 2 << 20; // 8 MiB, about the last-level share of a core
const lineWords = 16;

export const cacheContention: NoiseSource = timedSource({
  name: 'cache-contention',
  family: 'silicon',
  physical: 'hits, misses and evictions in a last-level cache that other cores use too, over 8 MiB',
  prepare() {
    let memory = written(cacheWords);
    let at = 0;
    return {
      act() {
        for (let step = 0; step < 6; step++) {
          const value = memory[at] ?? 0;
          memory[at] = (Math.imul(value, 22_695_477) + 1) | 0;
          at = (at + lineWords * (127 + (value & 63))) & (cacheWords - 1);
        }
      },
      release() {
        memory = new Uint32Array(0);
      },
    };
  },
});

const branches = 4096;

export const speculation: NoiseSource = timedSource({
  name: 'speculative-execution',
  family: 'silicon',
  physical: 'mispredicted branches, and what speculation left in predictors and caches',
  prepare() {
    // Noise of no kind decides the branches: a generator longer than any predictor remembers.
    const ways = new Uint8Array(branches);
    let state = 0x2545_f491;
    let at = 0;
    let sum = 0;
    const shift = (): number => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return state;
    };
    for (let i = 0; i < branches; i++) ways[i] = shift() & 3;
    return {
      act() {
        for (let branch = 0; branch < 24; branch++) {
          at = (at + 1) & (branches - 1);
          switch (ways[at]) {
            case 0:
              sum = (sum + at) | 0;
              break;
            case 1:
              sum = Math.imul(sum, 3);
              break;
            case 2:
              sum ^= sum >>> 7;
              break;
            default:
              ways[at ^ 1] = shift() & 3;
          }
        }
      },
    };
  },
});

const pageLength = 4096;
const pages = 256;
const protReadWrite = 0x3;
const mapPrivateAnonymous = 0x22;
const madvDontNeed = 4;
const madvNoHugePage = 15;

/** Anonymous pages of one's own. @throws Failure `memory-unavailable`. */
export function mapPages(count: number): bigint {
  const address = BigInt(mmap(0, count * pageLength, protReadWrite, mapPrivateAnonymous, -1, 0));
  if (address !== 0xffff_ffff_ffff_ffffn) return address;
  throw new Failure('memory-unavailable', `Memory could not be mapped: ${errnoName(errno())}.`);
}

export const pageFaultTiming: NoiseSource = timedSource({
  name: 'page-fault-timing',
  family: 'silicon',
  physical:
    'exception entry, page allocator state, clearing of a page in DRAM: the first write to a fresh page',
  prepare() {
    const length = pages * pageLength;
    const address = mapPages(pages);
    madvise(address, length, madvNoHugePage);
    let memory = viewMemory(address, length);
    let page = 0;
    return {
      act() {
        memory[page * pageLength] = 1;
        page += 1;
        if (page < pages) return;
        // Part of the timing of one sample in 256.
        madvise(address, length, madvDontNeed);
        page = 0;
      },
      release() {
        memory = new Uint8Array(0);
        munmap(address, length);
      },
    };
  },
});
