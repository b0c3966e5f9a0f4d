// The subject of carrier-loss-to-wipe, a program inside a namespace: for each line `arm NAME` a fresh interlock with a fresh arena,
// as in a node that zeroizes once in its life. It answers `armed`, and once wiped the time of that (CLOCK_MONOTONIC, microseconds).
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SecretArena } from '../../src/host/arena.ts';
import { causes } from '../../src/interlock/causes.ts';
import { Interlock } from '../../src/interlock/interlock.ts';
import type { ZeroizeOutcome } from '../../src/interlock/outcome.ts';

export type WatcherOrder = `arm ${string}`;

/** Bytes of the arena, here and in carrier.c. */
export const arenaLength = 1 << 20;

/** Resolves to the time at which the arena was wiped, once the cable `name` has been pulled. */
async function watchOnce(name: string, directory: string): Promise<number> {
  using arena = SecretArena.allocate({ byteLength: arenaLength });
  const { promise, resolve } = Promise.withResolvers<ZeroizeOutcome>();
  await using _interlock = await Interlock.start({
    arena,
    interfaces: [name],
    plan: {
      levels: causes.map(() => 'purge'),
      tpm: null,
      disk: { statePath: join(directory, 'lifecycle'), blobs: [] },
    },
    pollMilliseconds: 1,
    heartbeatMilliseconds: 5000,
    plannedFlapsPerHour: 3,
    onZeroized: resolve,
    onEvent: () => {},
  });
  const { bytes } = arena.take(arenaLength, 'benchmark');
  bytes.fill(0xa5);
  process.stdout.write('armed\n');
  const { cause, detectedAtMicros, stages } = await promise;
  if (cause !== 'link-flap') throw new Error(`The interlock zeroized because of ${cause}.`);
  if (Buffer.compare(bytes, new Uint8Array(arenaLength)) !== 0) throw new Error('The arena is not wiped.');
  return detectedAtMicros + stages.memory.micros;
}

if (import.meta.main) {
  const [directory = ''] = process.argv.slice(2);
  for await (const line of createInterface({ input: process.stdin })) {
    const [, name = ''] = line.split(' ');
    process.stdout.write(`${await watchOnce(name, directory)}\n`);
  }
}
