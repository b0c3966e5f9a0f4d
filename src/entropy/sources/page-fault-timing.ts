// Page-fault timing: how long the kernel takes to back a fresh page at its first write, in nanoseconds modulo 256.
import { Failure } from '../../host/failure.ts';
import { errno, errnoName, madvise, mmap, munmap, viewMemory } from '../../host/libc.ts';
import { alwaysAvailable, elapsedLow8, type NoiseSource } from '../source.ts';

const pageLength = 4096;
const pages = 256;
const protReadWrite = 0x3;
const mapPrivateAnonymous = 0x22;
const madvDontNeed = 4;
const madvNoHugePage = 15;

export const pageFaultTiming: NoiseSource = {
  name: 'page-fault-timing',
  family: 'timing',
  physical: 'exception entry, page allocator state, clearing of a page in DRAM',
  available: alwaysAvailable,
  open() {
    const length = pages * pageLength;
    const address = BigInt(mmap(0, length, protReadWrite, mapPrivateAnonymous, -1, 0));
    if (address === 0xffff_ffff_ffff_ffffn) {
      throw new Failure('memory-unavailable', `Memory could not be mapped: ${errnoName(errno())}.`);
    }
    madvise(address, length, madvNoHugePage);
    let memory = viewMemory(address, length);
    let page = 0;
    return {
      sample(into) {
        for (let i = 0; i < into.length; i++) {
          if (page === pages) {
            madvise(address, length, madvDontNeed);
            page = 0;
          }
          const start = process.hrtime.bigint();
          memory[page * pageLength] = 1;
          into[i] = elapsedLow8(start);
          page += 1;
        }
        return into.length;
      },
      [Symbol.dispose]() {
        memory = new Uint8Array(0);
        munmap(address, length);
      },
    };
  },
};
