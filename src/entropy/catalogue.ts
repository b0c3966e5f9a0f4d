// All noise sources there are. A new one is a new file in sources/ and a line here.
import type { NoiseSource } from './source.ts';
import { clockJitter } from './sources/clock-jitter.ts';
import { diskTiming } from './sources/disk-timing.ts';
import { hwrng } from './sources/hwrng.ts';
import { kernelCounters } from './sources/kernel-counters.ts';
import { memoryTiming } from './sources/memory-timing.ts';
import { pageFaultTiming } from './sources/page-fault-timing.ts';
import { schedulingJitter } from './sources/scheduling-jitter.ts';
import { systemCallTiming } from './sources/system-call-timing.ts';

/** `directory`: where disk timing keeps its (unlinked) file. */
export function noiseSources(directory: string): NoiseSource[] {
  return [
    clockJitter,
    memoryTiming,
    pageFaultTiming,
    systemCallTiming,
    schedulingJitter,
    diskTiming(directory),
    kernelCounters,
    hwrng(),
  ];
}
