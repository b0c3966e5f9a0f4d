// The scheduling family: what the kernel's locks, tables and run queues do to a thread that hands over work, loads a library, maps pages
// or asks for metadata; in nanoseconds modulo 256.
import { closeSync, futimesSync, statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { dlclose, dlopen } from '../../host/device-calls.ts';
import { Failure } from '../../host/failure.ts';
import { munmap, viewMemory } from '../../host/libc.ts';
import { type Availability, availableIf, elapsedLow8, type NoiseSource, unavailable } from '../source.ts';
import { unlinkedFile } from './disk.ts';
import { mapPages } from './silicon.ts';
import { timedSource } from './timed.ts';

/** Word 0 is counted up to ask, word 1 follows it. A negative word 0 ends the thread. */
const partner = `
const { workerData } = require('node:worker_threads');
const words = new Int32Array(workerData);
for (let asked = 0; ; ) {
  Atomics.wait(words, 0, asked, 1000);
  asked = Atomics.load(words, 0);
  if (asked < 0) break;
  Atomics.store(words, 1, asked);
  Atomics.notify(words, 1);
}`;
/** A partner that is still being started answers nothing. */
const patienceMilliseconds = 5;

export const workerDispatch: NoiseSource = {
  name: 'worker-dispatch',
  family: 'scheduling',
  physical: 'run queues and wake-ups between two cores: a word handed to another thread and back',
  pace: 'patient',
  exercised: 'live',
  available: () => ({ ok: true }),
  open() {
    const shared = new SharedArrayBuffer(8);
    const words = new Int32Array(shared);
    const worker = new Worker(partner, {
      eval: true,
      workerData: shared,
      execArgv: [],
      name: 'entropy-partner',
    });
    worker.on('error', () => {});
    worker.unref();
    let asked = 0;
    return {
      sample(into) {
        const count = Math.min(into.length, 32);
        for (let i = 0; i < count; i++) {
          const start = process.hrtime.bigint();
          const before = Atomics.load(words, 1);
          asked = (asked + 1) & 0x7fff_ffff;
          Atomics.store(words, 0, asked);
          Atomics.notify(words, 0);
          if (Atomics.wait(words, 1, before, patienceMilliseconds) === 'timed-out') return i;
          into[i] = elapsedLow8(start);
        }
        return count;
      },
      [Symbol.dispose]() {
        Atomics.store(words, 0, -1);
        Atomics.notify(words, 0);
        void worker.terminate();
      },
    };
  },
};

const RTLD_NOW = 2;
/** Small, everywhere beside the C library, and used by nobody here. */
const library = 'libBrokenLocale.so.1';

export const libraryLoading: NoiseSource = timedSource({
  name: 'library-loading',
  family: 'scheduling',
  physical: 'file lookup, mapping and relocation while a shared library is loaded and unloaded',
  samplesAtOnce: 16,
  available(): Availability {
    const handle = BigInt(dlopen(library, RTLD_NOW) ?? 0);
    if (handle === 0n) return unavailable(`${library} cannot be loaded`, 'It belongs to the GNU C library.');
    dlclose(handle);
    return { ok: true };
  },
  prepare: () => ({
    act() {
      const handle = BigInt(dlopen(library, RTLD_NOW) ?? 0);
      if (handle === 0n) throw new Failure('source-gone', `${library} cannot be loaded any more.`);
      dlclose(handle);
    },
  }),
});

export const pageMapping: NoiseSource = timedSource({
  name: 'page-mapping',
  family: 'scheduling',
  physical: 'locks and trees of the address space, TLB shootdowns: four pages mapped, touched and unmapped',
  samplesAtOnce: 128,
  prepare: () => ({
    act() {
      const address = mapPages(4);
      viewMemory(address, 4096)[0] = 1;
      munmap(address, 4 * 4096);
    },
  }),
});

/** `directory`: writable, on the file system that is timed. */
export function fileMetadataTiming(directory: string): NoiseSource {
  return timedSource({
    name: 'file-metadata-timing',
    family: 'scheduling',
    physical:
      'directory cache, journal and locks of the file system: times of a file set, metadata of its directory read',
    pace: 'patient',
    samplesAtOnce: 64,
    available: () =>
      availableIf(
        () => closeSync(unlinkedFile(directory)),
        () => `the directory ${directory} cannot be written`,
        'Create it, or give the service access to it.',
      ),
    prepare() {
      const fd = unlinkedFile(directory);
      let turn = 0;
      return {
        act() {
          futimesSync(fd, turn, turn++);
          statSync(directory);
        },
        release: () => closeSync(fd),
      };
    },
  });
}
