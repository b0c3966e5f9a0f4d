// The subject of carrier-loss-to-wipe, a program inside a namespace: for each line `arm NAME` a fresh interlock with a fresh arena,
// as in a node that zeroizes once in its life. It answers `armed`, and once wiped the times of the detection and of the end of the
// wipe (CLOCK_MONOTONIC, microseconds). `block NAME` does the same with the main thread blocked for half a second from then on.
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SecretArena } from '../../src/host/arena.ts';
import { causes } from '../../src/interlock/causes.ts';
import { Interlock } from '../../src/interlock/interlock.ts';
import type { ZeroizeOutcome } from '../../src/interlock/outcome.ts';

export type WatcherOrder = `${'arm' | 'block'} ${string}`;

const blockedMilliseconds = 500;

/** Bytes of the arena, here and in carrier.c. */
export const arenaLength = 1 << 20;

/** Resolves to the times once the cable `name` has been pulled and the arena is wiped. */
async function watchOnce(name: string, directory: string, blocked: boolean): Promise<string> {
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
  if (blocked) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, blockedMilliseconds);
  const { cause, detectedAtMicros, stages } = await promise;
  if (cause !== 'link-flap') throw new Error(`The interlock zeroized because of ${cause}.`);
  if (Buffer.compare(bytes, new Uint8Array(arenaLength)) !== 0) throw new Error('The arena is not wiped.');
  return `${detectedAtMicros} ${detectedAtMicros + stages.memory.micros}`;
}

if (import.meta.main) {
  const [directory = ''] = process.argv.slice(2);
  for await (const line of createInterface({ input: process.stdin })) {
    const [verb, name = ''] = line.split(' ');
    process.stdout.write(`${await watchOnce(name, directory, verb === 'block')}\n`);
  }
}
