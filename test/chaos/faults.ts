// What goes wrong around a pulled cable: each fault strikes at once, at a random instant, and is repaired afterwards.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { requireChild } from '../../src/host/child.ts';
import { courierOf } from '../appliance/scene.ts';
import type { SettableClock } from '../lab/clock.ts';
import type { LabNode } from '../lab/node.ts';
import type { SmallDisk } from '../lab/small-disk.ts';

export interface Victims {
  /** With a TPM. */
  readonly node: LabNode;
  /** Of the node's state directory. */
  readonly disk: SmallDisk;
  /** The node's wall clock. */
  readonly clock: SettableClock;
  /** Program that ends one thread. */
  readonly threadEnder: string;
}

export interface Fault {
  readonly name: string;
  /** Whether the node lives on: then it must zeroize, whenever the fault strikes. */
  readonly nodeLives: boolean;
  /** Looks for what is to be struck, beforehand; what it returns strikes. */
  readonly aim: (victims: Victims, random: () => number) => Promise<() => void>;
  /** Makes the machine whole again. The TPM is reset by then in any case. */
  readonly repair?: (victims: Victims) => void | Promise<void>;
}

function killed(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {} // It has ended by itself.
}

/** Room for no more than what is begun. */
const almostFull = 65_536;

export const faults: readonly Fault[] = [
  {
    name: 'daemon killed',
    nodeLives: false,
    aim:
      async ({ node }) =>
      () =>
        killed(node.pid),
  },
  {
    name: 'watcher thread ended',
    nodeLives: true,
    aim: async ({ node, threadEnder }) => {
      const thread = watcherOf(node.pid);
      return () => {
        const { status, stderr } = spawnSync(threadEnder, [String(thread)], { encoding: 'utf8' });
        // One that has zeroized has ended by itself.
        if (status !== 0 && !/No such process/.test(stderr)) throw new Error(stderr);
      };
    },
  },
  {
    name: 'courier killed',
    nodeLives: true,
    aim: async ({ node }) => {
      const courier = await courierOf(node);
      return () => killed(courier);
    },
  },
  {
    name: 'TPM killed',
    nodeLives: true,
    aim:
      async ({ node }) =>
      () =>
        node.tpm?.kill(),
  },
  {
    name: 'journald killed',
    nodeLives: true,
    aim: async ({ node }) => node.journald.kill,
    repair: ({ node }) => node.journald.restart(),
  },
  {
    name: 'disk full',
    nodeLives: true,
    aim: async ({ disk }) => {
      disk.fill(almostFull);
      return () => disk.fill();
    },
    repair: ({ disk }) => disk.relieve(),
  },
  {
    name: 'clock set back',
    nodeLives: true,
    aim:
      async ({ clock }, random) =>
      () =>
        clock.set(-Math.round(10 ** (5 * random()))), // A second to a day.
    repair: ({ clock }) => clock.set(0),
  },
];

/** The thread of a daemon that watches, by the name that it has given itself. */
function watcherOf(pid: number): number {
  const task = `/proc/${pid}/task`;
  const found = readdirSync(task).find(
    (thread) => readFileSync(`${task}/${thread}/comm`, 'latin1').trim() === 'watcher',
  );
  if (found === undefined) throw new Error('The daemon has no thread called watcher.');
  return Number(found);
}

/** Builds the program into `directory` and returns its path. */
export async function buildThreadEnder(directory: string): Promise<string> {
  const program = join(directory, 'end-thread');
  await requireChild('gcc', ['-O2', '-o', program, join(import.meta.dirname, '../lab/end-thread.c')]);
  return program;
}
