// /dev/hwrng: the random generator that the kernel has a driver for. Its inside is not ours to assess (in a virtual
// machine it is whatever the host says), so it is mixed in and not credited.
import { closeSync, constants, openSync, readSync } from 'node:fs';
import type { NoiseSource } from '../source.ts';

const bytesAtOnce = 64;

export function hwrng(path = '/dev/hwrng'): NoiseSource {
  const open = (): number => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return {
    name: 'hwrng',
    family: 'device',
    physical: 'whatever the device behind the kernel driver measures',
    available() {
      try {
        const fd = open();
        try {
          readSync(fd, new Uint8Array(1));
        } finally {
          closeSync(fd);
        }
        return { ok: true };
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EAGAIN') return { ok: true };
        return {
          ok: false,
          why: code === 'ENOENT' ? `there is no ${path}` : `${path} cannot be read (${code ?? 'unknown'})`,
          remedy: 'Load the driver of the device, and give the service read access to it.',
        };
      }
    },
    open() {
      const fd = open();
      return {
        sample(into) {
          try {
            return readSync(fd, into, 0, Math.min(into.length, bytesAtOnce), null);
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
            throw error;
          }
        },
        [Symbol.dispose]() {
          closeSync(fd);
        },
      };
    },
  };
}
