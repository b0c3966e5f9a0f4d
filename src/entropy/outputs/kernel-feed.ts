// Entropy for the kernel's generator (random(4), RNDADDENTROPY): 32 bytes of output that a fresh seed went into, credited with 256
// bits, the strength of the DRBG that they come from; without a fresh seed nothing is fed.
import { closeSync, openSync } from 'node:fs';
import { ioctl } from '../../host/device-calls.ts';
import { Failure } from '../../host/failure.ts';
import { errno, errnoName } from '../../host/libc.ts';

const RNDADDENTROPY = 0x4008_5203;
const fedBytes = 32;
const creditedBits = 256;

/** `readFresh`: as `EntropyPool.readFresh`. @throws what it throws; Failure `kernel-feed-refused`. */
export async function feedKernel(
  readFresh: (out: Uint8Array) => Promise<void>,
  path = '/dev/random',
): Promise<number> {
  // struct rand_pool_info: entropy_count, buf_size, buf.
  const info = new Uint8Array(8 + fedBytes);
  const view = new DataView(info.buffer);
  view.setInt32(0, creditedBits, true);
  view.setInt32(4, fedBytes, true);
  try {
    await readFresh(info.subarray(8));
    const fd = openSync(path, 'w');
    try {
      if (ioctl(fd, RNDADDENTROPY, info) === 0) return creditedBits;
      throw new Failure('kernel-feed-refused', `The kernel takes no entropy: ${errnoName(errno())}.`, {
        remedy: 'Grant CAP_SYS_ADMIN, or set entropy.kernel_feed_seconds to 0.',
      });
    } finally {
      closeSync(fd);
    }
  } finally {
    info.fill(0);
  }
}
