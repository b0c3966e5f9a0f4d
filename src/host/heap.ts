// The size of the JavaScript heap.
import { setFlagsFromString } from 'node:v8';

/**
 * From now on garbage is collected before memory is asked for. By default V8 lets hundreds of megabytes of it lie about on a
 * machine that has them. The flag is read at each collection, so that it may be set while the program runs.
 */
export const keepHeapSmall = (): void => setFlagsFromString('--optimize-for-size');
