import { randomFillSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { AssessmentRecord } from '../../src/entropy/assessment/record.ts';
import { Collection, scratchLength } from '../../src/entropy/collection.ts';
import { Conditioner } from '../../src/entropy/conditioning.ts';
import { ringCapacity, SampleRings } from '../../src/entropy/rings.ts';
import type { NoiseSource } from '../../src/entropy/source.ts';
import { SecretArena } from '../../src/host/arena.ts';

function source(name: string, sample: (into: Uint8Array) => number): NoiseSource & { closed: number } {
  const made: NoiseSource & { closed: number } = {
    name,
    family: 'external',
    pace: 'quick',
    exercised: 'live',
    physical: 'nothing',
    closed: 0,
    available: () => ({ ok: true }) as const,
    open: () => ({
      sample,
      [Symbol.dispose]: () => {
        made.closed += 1;
      },
    }),
  };
  return made;
}
const good = (into: Uint8Array): number => randomFillSync(into).length;

function collect(sources: NoiseSource[], before?: { readonly rings: SampleRings }) {
  const arena = SecretArena.allocate({ allowSwappable: true });
  const memory = arena.take(sources.length * ringCapacity, 'samples');
  const rings = before?.rings ?? new SampleRings(memory.bytes, SampleRings.share(sources.length));
  const lost: string[] = [];
  const collection = new Collection(
    sources.map((entry, index) => ({ source: entry, index, expected: 1, level: 1024 })),
    {
      rings,
      scratch: arena.take(scratchLength(sources.length), 'scratch').bytes,
      lane: 'quick',
      epoch: rings.epoch('quick'),
      tell: (news) => {
        if (news.kind === 'failed') lost.push(`${sources[news.index]?.name}: ${news.why}`);
      },
      retryMilliseconds: 1,
      silenceMilliseconds: 20,
    },
  );
  return { arena, rings, collection, lost, [Symbol.dispose]: () => arena[Symbol.dispose]() };
}

describe('a collection', () => {
  it('fills the ring of each healthy source, no further than its end, and then has nothing to do', () => {
    using made = collect([source('a', good), source('b', good)]);
    for (let i = 0; i < 20; i++) made.collection.round();
    expect(made.rings.state(0)).toBe('healthy');
    expect(made.rings.available(0)).toBe(ringCapacity);
    expect(made.rings.available(1)).toBe(ringCapacity);
    expect(made.rings.samples(1)).toBe(20 * 1024);
    made.rings.markSeeded();
    expect(made.collection.round()).toBe(false);
    made.collection.idleRound();
    expect(made.rings.samples(1)).toBe(20 * 1024 + 128);
    made.rings.drain(0, new Uint8Array(ringCapacity));
    expect(made.collection.round()).toBe(true);
  });

  it('isolates a stuck source: its samples are discarded, it is closed, the others go on', () => {
    const stuck = source('stuck', good);
    using made = collect([stuck, source('b', good)]);
    for (let i = 0; i < 3; i++) made.collection.round();
    expect(made.rings.available(0)).toBe(2048);
    made.rings.induce(0, 'stuck');
    made.collection.round();
    expect(made.rings.state(0)).toBe('expelled');
    expect(made.rings.available(0)).toBe(0);
    expect(made.rings.failures(0)).toBe(1);
    expect(stuck.closed).toBe(1);
    expect(made.rings.state(1)).toBe('healthy');
    expect(made.rings.available(1)).toBe(3072);
  });

  it.each(['stuck', 'biased', 'repeating', 'periodic', 'drifting'] as const)(
    'hears a rehearsed %s source',
    (failure) => {
      using made = collect([source('a', good)]);
      made.rings.induce(0, failure);
      for (let i = 0; i < 3; i++) made.collection.round();
      expect(made.rings.state(0)).toBe('expelled');
      made.rings.induce(0, undefined);
      made.rings.restart(0);
      for (let i = 0; i < 3; i++) made.collection.round();
      expect(made.rings.state(0)).toBe('healthy');
    },
  );

  it('isolates a source that throws, says what it said, tries again, and expels it at last', async () => {
    const gone = source('gone', () => {
      throw new Error('unplugged');
    });
    using made = collect([gone, source('b', good)]);
    made.collection.round();
    expect(made.lost).toEqual(['gone: unplugged']);
    expect(made.rings.state(0)).toBe('failed');
    for (let i = 0; made.rings.state(0) !== 'expelled' && i < 2000; i++) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      made.collection.round();
    }
    expect(made.rings.state(0)).toBe('expelled');
    expect(made.lost).toHaveLength(5);
    expect(made.rings.state(1)).toBe('healthy');
    made.collection[Symbol.dispose]();
  });

  it('takes a source back that threw once, through its start-up test', async () => {
    let broken = true;
    const shaky = source('shaky', (into) => {
      if (broken) throw new Error('loose contact');
      return good(into);
    });
    using made = collect([shaky]);
    made.collection.round();
    broken = false;
    for (let i = 0; made.rings.state(0) !== 'healthy' && i < 2000; i++) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      made.collection.round();
    }
    expect(made.rings.available(0)).toBe(0);
    made.collection.round();
    expect(made.rings.available(0)).toBe(1024);
  });

  it.each(['throwing', 'flooding'] as const)(
    'isolates a rehearsed %s source and keeps none of its bytes',
    (failure) => {
      using made = collect([source('a', good)]);
      for (let i = 0; i < 3; i++) made.collection.round();
      made.rings.induce(0, failure);
      made.collection.idleRound();
      expect(made.rings.state(0)).toBe('failed');
      expect(made.rings.available(0)).toBe(0);
    },
  );

  it('takes short turns for what they are, and silence for a failure that it is forgiven', async () => {
    using made = collect([source('a', good)]);
    for (let i = 0; i < 3; i++) made.collection.round();
    made.rings.induce(0, 'short');
    made.collection.round();
    expect(made.rings.available(0)).toBe(2049);
    made.rings.induce(0, 'silent');
    for (let i = 0; made.rings.state(0) === 'healthy' && i < 2000; i++) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      made.collection.idleRound();
    }
    expect(made.rings.state(0)).toBe('failed');
    expect(made.rings.available(0)).toBe(0);
    expect(made.lost).toEqual(['a: it has fallen silent']);
    made.rings.induce(0, undefined);
    for (let i = 0; i < 20; i++) made.collection.idleRound();
    expect(made.rings.state(0)).toBe('healthy');
  });

  it('assesses a source before its first turn and expects what was found', () => {
    const news: unknown[] = [];
    using arena = SecretArena.allocate({ allowSwappable: true });
    const rings = new SampleRings(arena.take(ringCapacity, 'samples').bytes, SampleRings.share(1));
    const record = { minEntropy: 0.1 } as AssessmentRecord;
    using collection = new Collection(
      [
        {
          source: source('a', good),
          index: 0,
          expected: 8,
          level: 1024,
          assess: () => ({ record, expected: 0.1 }),
        },
      ],
      {
        rings,
        scratch: new Uint8Array(scratchLength(1)),
        lane: 'quick',
        epoch: 0,
        tell: (what) => news.push(what),
      },
    );
    collection.idleRound();
    expect(rings.samples(0)).toBe(0);
    collection.round();
    expect(news).toEqual([{ kind: 'assessed', index: 0, record }]);
    expect(rings.samples(0)).toBe(1024);
  });

  it('touches no ring once another thread serves its lane', () => {
    const late = source('late', (into) => {
      made.rings.supersede('quick');
      return good(into);
    });
    using made = collect([late]);
    made.collection.round();
    expect(made.collection.superseded).toBe(true);
    expect(made.rings.samples(0)).toBe(0);
    expect(made.rings.turnUnderWay('quick')).toBeUndefined();
  });

  it('touches no ring once it was told to stop: its owner may have given the memory away', () => {
    const late = source('late', (into) => {
      if (turns++ > 0) made.rings.stop();
      return good(into);
    });
    let turns = 0;
    using made = collect([late]);
    made.collection.round();
    expect(made.rings.state(0)).toBe('healthy');
    made.collection.round();
    expect(made.rings.samples(0)).toBe(1024);
    expect(made.rings.available(0)).toBe(0);
  });

  it('takes over what the one before it found: who is expelled stays so, and failures are counted on', () => {
    const sources = [source('stuck', good), source('throws', good), source('good', good)];
    using before = collect(sources);
    before.rings.induce(0, 'stuck');
    before.rings.induce(1, 'throwing');
    before.collection.round();
    before.rings.induce(0, undefined);
    before.rings.induce(1, undefined);
    before.rings.supersede('quick');
    using after = collect(sources, before);
    for (let i = 0; i < 3; i++) after.collection.round();
    const states = () => [0, 1, 2].map((index) => after.rings.state(index));
    expect(states()).toEqual(['expelled', 'healthy', 'healthy']);
    expect([0, 1, 2].map((index) => after.rings.failures(index))).toEqual([1, 1, 0]);
    expect(after.rings.samples(0)).toBe(1024);
    after.rings.restart(0);
    for (let i = 0; i < 3; i++) after.collection.round();
    expect(states()).toEqual(['healthy', 'healthy', 'healthy']);
    expect(after.rings.failures(0)).toBe(1);
  });
});

describe('a conditioner', () => {
  it('makes a seed of 448 credited bits, consumes what it used, and mixes in uncredited samples', () => {
    using made = collect([source('credited', good), source('mixed', good)]);
    using conditioner = new Conditioner(made.arena, made.rings, 2, (index) => [0.25, 0][index] ?? 0);
    let seeds: string[] = [];
    const keep = (seed: { bytes: Uint8Array }): void => {
      seeds = [...seeds, Buffer.from(seed.bytes).toString('hex')];
    };
    made.collection.round();
    made.collection.round();
    expect(conditioner.credited).toBe(256);
    expect(conditioner.seed(keep)).toBe(0);
    expect(made.rings.available(0)).toBe(1024);
    made.collection.round();
    expect(conditioner.seed(keep)).toBe(448);
    expect(seeds).toHaveLength(1);
    expect(seeds[0]).toMatch(/^[0-9a-f]{96}$/);
    expect(seeds[0]).not.toMatch(/^0+$/);
    expect(made.rings.available(0) + made.rings.available(1)).toBe(0);
    expect(conditioner.seed(keep)).toBe(0);
  });

  it('counts nothing of a source that is not healthy', () => {
    using made = collect([source('a', good)]);
    using conditioner = new Conditioner(made.arena, made.rings, 1, () => 0.125);
    for (let i = 0; i < 4; i++) made.collection.round();
    expect(conditioner.credited).toBe(384);
    made.rings.induce(0, 'repeating');
    made.collection.round();
    expect(conditioner.credited).toBe(0);
    expect(conditioner.seed(() => {})).toBe(0);
  });
});

describe('sample rings', () => {
  it('give samples out in order, across the end of the ring', () => {
    const rings = new SampleRings(new Uint8Array(ringCapacity), SampleRings.share(1));
    const out = new Uint8Array(1000);
    for (let turn = 0; turn < 50; turn++) {
      const samples = Uint8Array.from({ length: 1000 }, (_, i) => (turn * 7 + i) & 0xff);
      rings.push(0, samples);
      expect(rings.drain(0, out)).toBe(1000);
      expect(out).toEqual(samples);
    }
    expect(rings.available(0)).toBe(0);
  });

  it('never count what two threads append at once twice, nor go back', () => {
    const rings = new SampleRings(new Uint8Array(ringCapacity), SampleRings.share(1));
    const own = new Uint8Array(100);
    // The thread of a lane that has just been superseded, in the middle of this one's work.
    const samples = new Proxy(new Uint8Array(10), {
      get(target, key) {
        if (key === '9') rings.push(0, own);
        return Reflect.get(target, key) as unknown;
      },
    });
    rings.push(0, samples);
    expect(rings.available(0)).toBe(100);
  });

  it('do not sleep once they are stopped', () => {
    const rings = new SampleRings(new Uint8Array(ringCapacity), SampleRings.share(1));
    rings.pause(true);
    expect(rings.paused).toBe(true);
    rings.stop();
    const begun = performance.now();
    rings.rest(5000);
    expect(performance.now() - begun).toBeLessThan(1000);
  });
});
