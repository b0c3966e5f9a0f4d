// The cross-domain family: two or three things that have clocks or queues of their own, one after the other, and the beat between them:
// the difference of their times, in nanoseconds modulo 256.
import { close, read, write } from '../../host/libc.ts';
import { pipeEnds } from '../../host/pipe-ends.ts';
import { alwaysAvailable, type NoiseSource } from '../source.ts';

interface Domain {
  readonly act: () => void;
  readonly release?: () => void;
}

function processor(): Domain {
  let work = 1;
  return {
    act() {
      for (let round = 0; round < 32; round++) work = (Math.imul(work, 1_664_525) + 1_013_904_223) | 0;
    },
  };
}

const words = 2 << 20; // 8 MiB

function memory(): Domain {
  let cells = new Uint32Array(words).fill(0x9e37_79b9);
  let at = 0;
  return {
    act() {
      for (let step = 0; step < 3; step++) {
        const value = cells[at] ?? 0;
        cells[at] = (Math.imul(value, 1_664_525) + 1_013_904_223) | 0;
        at = (Math.imul(at, 22_695_477) + value + 1) & (words - 1);
      }
    },
    release() {
      cells = new Uint32Array(0);
    },
  };
}

/** A byte through a pipe: into the kernel and back. */
function inputOutput(): Domain {
  const { readEnd, writeEnd } = pipeEnds();
  const byte = new Uint8Array(1);
  return {
    act() {
      write(writeEnd, byte, 1);
      read(readEnd, byte, 1);
    },
    release() {
      close(readEnd);
      close(writeEnd);
    },
  };
}

function beat(
  name: string,
  physical: string,
  samplesAtOnce: number,
  open: readonly (() => Domain)[],
): NoiseSource {
  return {
    name,
    family: 'cross-domain',
    physical,
    pace: 'quick',
    exercised: 'live',
    available: alwaysAvailable,
    open() {
      const domains = open.map((make) => make());
      return {
        sample(into) {
          const count = Math.min(into.length, samplesAtOnce);
          for (let i = 0; i < count; i++) {
            let difference = 0n;
            let before = process.hrtime.bigint();
            for (const { act } of domains) {
              act();
              const now = process.hrtime.bigint();
              difference = now - before - difference;
              before = now;
            }
            into[i] = Number(BigInt.asUintN(8, difference));
          }
          return count;
        },
        [Symbol.dispose]() {
          for (const { release } of domains) release?.();
        },
      };
    },
  };
}

export const beats: readonly NoiseSource[] = [
  beat(
    'cpu-io-beat',
    'the pace of the core against the pace of the kernel: arithmetic, then a byte through a pipe',
    256,
    [processor, inputOutput],
  ),
  beat(
    'cpu-memory-beat',
    'the pace of the core against the pace of DRAM: arithmetic, then a random walk',
    1024,
    [processor, memory],
  ),
  beat('multi-domain-beat', 'core, DRAM and kernel against one another', 256, [
    processor,
    memory,
    inputOutput,
  ]),
];
