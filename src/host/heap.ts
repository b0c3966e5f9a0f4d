// How much memory lies about: in the JavaScript heap, and in that of the C library.
import { setFlagsFromString } from 'node:v8';
import { mallopt } from './libc.ts';

const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;
const M_ARENA_MAX = -8;
const mebibyte = 1 << 20;

/**
 * From now on garbage is collected before memory is asked for. By default V8 lets hundreds of megabytes of it lie about on a
 * machine that has them. The flag is read at each collection, so that it may be set while the program runs.
 */
export const keepHeapSmall = (): void => setFlagsFromString('--optimize-for-size');

/**
 * What threads free goes back to the kernel. By default the C library has heaps for up to eight threads a processor, and once a large
 * buffer was freed, it puts those like it into them and gives back nothing below one that is in use: a process whose threads come and
 * go with buffers of their own grows for hours. Before the first of them starts.
 */
export function shareNativeHeaps(): void {
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_THRESHOLD, 4 * mebibyte);
  mallopt(M_TRIM_THRESHOLD, 8 * mebibyte);
}
