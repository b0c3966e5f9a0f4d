// Disk timing: how long it takes to write 512 bytes and have them on the medium (fdatasync), in nanoseconds modulo 256.
// The file is unlinked as soon as it is open, so nothing stays behind however the process ends.
import { accessSync, closeSync, constants, fdatasyncSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { availableIf, elapsedLow8, type NoiseSource } from '../source.ts';

const blockLength = 512;
const blocks = 64;
const samplesAtOnce = 8;
const patienceNanoseconds = 3_000_000n;

/** `directory`: on the medium to be timed, writable. */
export function diskTiming(directory: string): NoiseSource {
  return {
    name: 'disk-timing',
    family: 'hardware',
    physical: 'latency of the storage device and its queue',
    pace: 'patient',
    exercised: 'live',
    available: () =>
      availableIf(
        () => accessSync(directory, constants.W_OK),
        () => `the directory ${directory} cannot be written`,
        'Create it, or give the service access to it.',
      ),
    open() {
      const fd = unlinkedFile(directory);
      const block = new Uint8Array(blockLength);
      writeSync(fd, new Uint8Array(blockLength * blocks));
      fdatasyncSync(fd);
      let turn = 0;
      return {
        sample(into) {
          const begun = process.hrtime.bigint();
          let count = 0;
          while (count < Math.min(into.length, samplesAtOnce)) {
            const start = process.hrtime.bigint();
            block[0] = turn & 0xff;
            writeSync(fd, block, 0, blockLength, (turn++ % blocks) * blockLength);
            fdatasyncSync(fd);
            into[count++] = elapsedLow8(start);
            if (process.hrtime.bigint() - begun > patienceNanoseconds) break;
          }
          return count;
        },
        [Symbol.dispose]() {
          closeSync(fd);
        },
      };
    },
  };
}

/** An open file that has no name any more. */
export function unlinkedFile(directory: string): number {
  const path = join(directory, `.disk-timing.${process.pid}.${process.hrtime.bigint()}`);
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  unlinkSync(path);
  return fd;
}
