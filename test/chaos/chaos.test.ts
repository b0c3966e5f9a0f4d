// Chaos: the daemon or its courier is killed with SIGKILL at a random instant around a pulled cable. Whatever the instant, what is
// left is a state of the lifecycle, and the next start either finishes the zeroize and refuses, or runs. Each run has a seed of
// its own, named when it fails; ESOTERIC_CHAOS says how many runs there are, ESOTERIC_CHAOS_SEED where they begin.
import { cpSync, existsSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { zeroizeUnfinished } from '../../src/appliance/interrupted.ts';
import { stateLayout } from '../../src/appliance/node-record.ts';
import { checkChain } from '../../src/custody/chain.ts';
import { wholeLog } from '../../src/custody/segments.ts';
import { requireChild } from '../../src/host/child.ts';
import { readMarker } from '../../src/interlock/marker.ts';
import { Lifecycle } from '../../src/keys/lifecycle.ts';
import { courierOf, labNode, profile, refusalOf, Scratch, until } from '../appliance/scene.ts';
import { setCable } from '../lab/cable.ts';
import { addCable, enterOwnNetwork } from '../lab/namespace.ts';
import type { LabNode } from '../lab/node.ts';

const runs = Number(process.env.ESOTERIC_CHAOS ?? 10);
const firstSeed = Number(process.env.ESOTERIC_CHAOS_SEED ?? 1);
const victims = ['daemon', 'daemon', 'daemon', 'courier'] as const;
const longestRunMilliseconds = 60_000;

/** Numbers from 0 to 1 that follow from the seed (mulberry32). */
function seeded(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function killed(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {} // It has ended by itself.
}

describe('a kill around a pulled cable', () => {
  const scratch = new Scratch();
  let node: LabNode;
  const seen = new Map<string, number>();
  const count = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);
  beforeAll(async () => {
    enterOwnNetwork();
    await requireChild('ip', ['link', 'set', 'lo', 'up']);
    await addCable('near0', 'far0');
    node = await labNode(scratch, 'chaos', { interfaces: ['near0'] });
    await node.ask(['provision', '--profile', profile('leaf')]);
    cpSync(node.stateDirectory, scratch.at('provisioned'), { recursive: true });
  });
  afterAll(async () => {
    console.log(`chaos: ${[...seen].map(([what, often]) => `${often} ${what}`).join(', ')}`);
    await node?.[Symbol.asyncDispose]();
    scratch[Symbol.dispose]();
  });

  const stateNow = () => new Lifecycle(node.stateDirectory).read();
  const zeroized = () =>
    stateNow().state === 'zeroized' || zeroizeUnfinished(stateLayout(node.stateDirectory));

  it(
    `leaves one of the states that there are, ${runs} times`,
    async () => {
      for (let seed = firstSeed; seed < firstSeed + runs; seed += 1) {
        try {
          await oneRun(seeded(seed));
        } catch (error) {
          throw new Error(`The run with ESOTERIC_CHAOS_SEED=${seed} failed.`, { cause: error });
        }
      }
      expect([...seen.values()].reduce((sum, often) => sum + often, 0)).toBe(runs);
    },
    runs * longestRunMilliseconds,
  );

  async function oneRun(random: () => number): Promise<void> {
    rmSync(node.stateDirectory, { recursive: true });
    cpSync(scratch.at('provisioned'), node.stateDirectory, { recursive: true });
    setCable('far0', 'up');
    await node.run();
    const victim = victims[Math.floor(random() * victims.length)] ?? 'daemon';
    const pid = victim === 'courier' ? await courierOf(node) : node.pid;
    // From before the pull until custody, certificate and alert are written; most of them where stages follow each other.
    const delay = random() < 0.7 ? 12 * random() : 300 * random();
    const before = random() < 0.15;
    if (before) killed(pid);
    setCable('far0', 'down');
    await sleep(delay);
    if (!before) killed(pid);
    if (victim === 'courier') {
      await until('the node is zeroized without its courier', () => (zeroized() ? true : undefined));
    }
    await node.stop();
    const { state, cause } = stateNow();
    expect(['sealed', 'zeroized']).toContain(state);
    expect(cause).not.toBe('state-unparsable');
    if (zeroized()) {
      const unfinished = readMarker(new Lifecycle(node.stateDirectory).path) !== undefined;
      expect(await refusalOf(['run', ...node.arguments])).toMatchObject({ status: 4 });
      expect(stateNow().state).toBe('zeroized');
      expect(readMarker(new Lifecycle(node.stateDirectory).path)).toBeUndefined();
      count(`${victim}, zeroized${unfinished ? ', finished at the next start' : ''}`);
    } else {
      setCable('far0', 'up');
      await node.run();
      await node.stop();
      expect(existsSync(`${node.stateDirectory}/running.json`)).toBe(false);
      count(`${victim}, before the interlock noticed`);
    }
    const chain = checkChain(wholeLog(`${node.stateDirectory}/custody.jsonl`));
    expect(chain.problem).toBeUndefined();
    expect(chain.ok).toBe(true);
  }
});
