import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { runChild } from '../../src/host/child.ts';
import { close, pipe2, write } from '../../src/host/libc.ts';
import { linkState, listInterfaces } from '../../src/host/netlink.ts';
import { setCable } from '../lab/cable.ts';
import { addCable, enterOwnNetwork, ip, Tap } from '../lab/namespace.ts';
import { Guard, until } from './guard.ts';

beforeAll(() => enterOwnNetwork());

describe('a pulled cable', () => {
  beforeEach(async () => addCable('near0', 'far0'));
  // A namespace that was deleted takes its interfaces a moment later, so it may be gone or going.
  afterEach(async () => {
    await runChild('ip', ['link', 'delete', 'far0']);
  });

  it('wipes the arena, and says where and how', async () => {
    await using guard = await Guard.start();
    expect(guard.wiped).toBe(false);
    expect(guard.interlock.outcome).toBeUndefined();
    const pull = setCable('far0', 'down');
    const outcome = await guard.struck();
    expect(guard.wiped).toBe(true);
    expect(outcome).toMatchObject({
      cause: 'link-flap',
      interface: 'near0',
      level: 'lock',
      stages: {
        kernel: { failures: 0 },
        tpm: { result: 'not part of this level' },
        disk: { result: 'done' },
      },
    });
    // Within a millisecond of drift between the two clocks' calibrations, and long before anybody could copy a key.
    expect(outcome.detectedAtMicros).toBeGreaterThan(pull.before - 1000);
    expect(outcome.detectedAtMicros - pull.after).toBeLessThan(500_000);
    for (const stage of Object.values(outcome.stages)) expect(stage.micros).toBeGreaterThanOrEqual(0);
    expect(guard.interlock.outcome).toEqual(outcome);
    expect(guard.interlock.status().phase).toBe('zeroized');
    expect(JSON.parse(readFileSync(guard.statePath, 'utf8'))).toMatchObject({
      state: 'zeroized',
      cause: 'link-flap',
      level: 'lock',
    });
  });

  it('counts, when the watched end itself is set down', async () => {
    await using guard = await Guard.start();
    await ip('link', 'set', 'near0', 'down');
    expect(await guard.struck()).toMatchObject({ cause: 'link-flap', interface: 'near0' });
    expect(guard.wiped).toBe(true);
  });

  it.each([
    ['is removed', ['link', 'delete', 'far0'], ['interface-removed', 'link-flap']],
    ['gets another name', ['link', 'set', 'near0', 'name', 'other0'], ['interface-renamed', 'link-flap']],
    [
      'gets another address',
      ['link', 'set', 'near0', 'address', '02:00:00:00:00:07'],
      ['interface-address-changed'],
    ],
  ])('wipes when the interface %s', async (_, command, allowed) => {
    await using guard = await Guard.start();
    await ip(...command);
    const { cause } = await guard.struck();
    expect(allowed).toContain(cause);
    expect(guard.wiped).toBe(true);
    if (listInterfaces().some(({ name }) => name === 'other0')) await ip('link', 'delete', 'other0');
  });

  it('names a new name as the cause where the carrier stays', async () => {
    using tap = new Tap('tap1');
    await ip('link', 'set', 'tap1', 'up');
    await using guard = await Guard.start({ interfaces: ['tap1'] });
    await ip('link', 'set', 'tap1', 'name', 'tap2');
    expect(await guard.struck()).toMatchObject({ cause: 'interface-renamed', interface: 'tap1' });
    tap.carrier(false);
  });

  it('names a move to another namespace as the cause where the interface was down before', async () => {
    const elsewhere = `ea-t2-${process.pid}`;
    await ip('netns', 'add', elsewhere);
    try {
      await ip('link', 'set', 'near0', 'down');
      await using guard = await Guard.start();
      await ip('link', 'set', 'near0', 'netns', elsewhere);
      expect(await guard.struck()).toMatchObject({ cause: 'interface-moved', interface: 'near0' });
    } finally {
      await ip('netns', 'delete', elsewhere);
    }
  });

  it('wipes when the interface is held down from above while its carrier stays', async () => {
    await using guard = await Guard.start();
    await ip('link', 'set', 'near0', 'state', 'dormant');
    expect(await guard.struck()).toMatchObject({ cause: 'operstate-lost', interface: 'near0' });
    expect(guard.wiped).toBe(true);
  });

  it('wipes when the interface is moved to another namespace', async () => {
    const elsewhere = `ea-t1-${process.pid}`;
    await ip('netns', 'add', elsewhere);
    try {
      await using guard = await Guard.start();
      await ip('link', 'set', 'near0', 'netns', elsewhere);
      expect(['interface-removed', 'link-flap']).toContain((await guard.struck()).cause);
      expect(guard.wiped).toBe(true);
    } finally {
      await ip('netns', 'delete', elsewhere);
    }
  });

  it('says nothing of interfaces that are not watched', async () => {
    await addCable('near1', 'far1');
    await using guard = await Guard.start();
    setCable('far1', 'down');
    await ip('link', 'delete', 'far1');
    await sleep(50);
    expect(guard.wiped).toBe(false);
    expect(guard.outcomes).toEqual([]);
  });

  it('is not confused with an interface that enters a bridge and leaves it again', async () => {
    await ip('link', 'add', 'bridge0', 'type', 'bridge');
    await using guard = await Guard.start();
    await ip('link', 'set', 'near0', 'master', 'bridge0');
    await ip('link', 'set', 'near0', 'nomaster');
    await ip('link', 'delete', 'bridge0');
    await sleep(20);
    expect(guard.outcomes).toEqual([]);
    setCable('far0', 'down');
    expect((await guard.struck()).cause).toBe('link-flap');
  });

  it('lists every cause that comes while the stages run', async () => {
    await addCable('near1', 'far1');
    await using guard = await Guard.start({ interfaces: ['near0', 'near1'] });
    // The kernel stage takes the second cable away itself, so that it has gone by the end of the stages.
    const far1 = listInterfaces().find(({ name }) => name === 'far1')?.index ?? 0;
    guard.interlock.addKernelAction({ message: linkState(far1, false) });
    setCable('far0', 'down');
    expect(await guard.struck()).toMatchObject({
      cause: 'link-flap',
      interface: 'near0',
      also: [{ cause: 'link-flap', interface: 'near1' }],
    });
    const { decisions } = guard.interlock.status();
    const told = new Set(decisions.map(({ verdict, interface: name }) => `${verdict} ${name}`));
    expect(told).toEqual(new Set(['link-flap near0', 'link-flap near1']));
    await ip('link', 'delete', 'far1');
  });

  it('gives one outcome however many causes come at once', async () => {
    await addCable('near1', 'far1');
    await using guard = await Guard.start({ interfaces: ['near0', 'near1'] });
    setCable('far0', 'down');
    setCable('far1', 'down');
    const outcomes = await Promise.all([
      guard.interlock.zeroize('operator'),
      guard.interlock.zeroize('link-key-lost'),
      guard.struck(),
    ]);
    expect(new Set(outcomes.map((outcome) => JSON.stringify(outcome))).size).toBe(1);
    await sleep(20);
    expect(guard.outcomes).toHaveLength(1);
    await ip('link', 'delete', 'far1');
  });

  it('is refused to be watched for where there is no such interface', async () => {
    const before = openDescriptors();
    await expect(Guard.start({ interfaces: ['near0', 'nowhere0'] })).rejects.toMatchObject({
      code: 'interface-missing',
      remedy: expect.stringContaining('near0'),
    });
    expect(openDescriptors()).toBe(before);
  });

  it('concerns at most 16 interfaces', async () => {
    for (let pair = 1; pair <= 8; pair += 1) await ip('link', 'add', `many${pair}`, 'type', 'veth');
    const names = listInterfaces().map(({ name }) => name);
    expect(names.length).toBeGreaterThan(16);
    await expect(Guard.start({ interfaces: names })).rejects.toMatchObject({ code: 'interfaces-too-many' });
    for (let pair = 1; pair <= 8; pair += 1) await ip('link', 'delete', `many${pair}`);
  });
});

describe('an interface that keeps its carrier', () => {
  it('counts as flapped when it is set down', async () => {
    using _tap = new Tap('tap0');
    await ip('link', 'set', 'tap0', 'up');
    await using guard = await Guard.start({ interfaces: ['tap0'] });
    await ip('link', 'set', 'tap0', 'down');
    expect(listInterfaces().find(({ name }) => name === 'tap0')).toMatchObject({
      admin: false,
      carrier: true,
    });
    expect(await guard.struck()).toMatchObject({ cause: 'interface-down', interface: 'tap0' });
  });

  it('may be set down and up once in a window for one flap, and not be down at its end', async () => {
    using _tap = new Tap('tap0');
    await ip('link', 'set', 'tap0', 'up');
    await using guard = await Guard.start({ interfaces: ['tap0'] });
    guard.interlock.openWindow({ interfaces: [], seconds: 60, flaps: 2, reason: 'a test' });
    await ip('link', 'set', 'tap0', 'down');
    await until('the flap', () => guard.heard('planned-flap')[0]);
    await ip('link', 'set', 'tap0', 'up');
    await sleep(20);
    expect(guard.heard('planned-flap')).toMatchObject([{ flaps: 1 }]);
    await ip('link', 'set', 'tap0', 'down');
    await until('the second', () => guard.heard('planned-flap')[1]);
    guard.interlock.closeWindow('too early');
    expect((await guard.struck()).cause).toBe('window-expired-down');
  });
});

describe('the name any', () => {
  /** A sysfs in which the interfaces of a name have a device behind them. */
  function sysfsOf(...names: string[]): string {
    const sysfs = mkdtempSync(join(tmpdir(), 'ea-sysfs-'));
    for (const name of names) {
      mkdirSync(join(sysfs, name, 'device'), { recursive: true });
      writeFileSync(join(sysfs, name, 'device', 'uevent'), '');
    }
    return sysfs;
  }

  it('stands for physical interfaces, also for one that appears later: from then on its flap counts', async () => {
    const sysfs = sysfsOf('near0', 'near1');
    await addCable('near0', 'far0');
    await using guard = await Guard.start({ interfaces: ['any'], sysfs });
    expect(guard.interlock.status().watched.map((link) => link.interface)).toEqual(['near0']);
    await addCable('near1', 'far1');
    expect(await until('it to be seen', () => guard.heard('appeared')[0])).toMatchObject({
      interface: 'near1',
    });
    await until('its carrier', () => guard.interlock.status().watched[1]?.carrier || undefined);
    expect(guard.wiped).toBe(false);
    setCable('far1', 'down');
    expect(await guard.struck()).toMatchObject({ cause: 'link-flap', interface: 'near1' });
    for (const name of ['far0', 'far1']) await ip('link', 'delete', name);
    rmSync(sysfs, { recursive: true });
  });

  it('watches nothing else: what has no device behind it comes and goes', async () => {
    const sysfs = sysfsOf();
    await using guard = await Guard.start({ interfaces: ['any'], sysfs });
    await addCable('near1', 'far1');
    await ip('link', 'delete', 'far1');
    await sleep(20);
    expect(guard.events).toEqual([]);
    expect(guard.wiped).toBe(false);
    rmSync(sysfs, { recursive: true });
  });

  it('says so where there is no room for one more', async () => {
    const names = Array.from({ length: 17 }, (_, n) => `near${n}`);
    const sysfs = sysfsOf(...names);
    for (const name of names.slice(0, 16)) await ip('link', 'add', name, 'type', 'veth');
    await using guard = await Guard.start({ interfaces: ['any'], sysfs });
    expect(guard.interlock.status().watched).toHaveLength(16);
    await ip('link', 'add', 'near16', 'type', 'veth');
    expect(await until('it to be seen', () => guard.heard('appeared')[0])).toEqual({
      kind: 'appeared',
      interface: 'near16',
      link: undefined,
    });
    await guard.interlock[Symbol.asyncDispose]();
    for (const name of names) await ip('link', 'delete', name);
    rmSync(sysfs, { recursive: true });
  });
});

describe('a tamper contact', () => {
  it('zeroizes as soon as its descriptor becomes readable', async () => {
    const ends = new Int32Array(2);
    expect(pipe2(ends, 0)).toBe(0);
    const [reading = -1, writing = -1] = ends;
    await using guard = await Guard.start({ interfaces: ['CPU'], tamper: [reading] });
    await sleep(20);
    expect(guard.wiped).toBe(false);
    write(writing, Uint8Array.of(1), 1);
    expect(await guard.struck()).toMatchObject({ cause: 'tamper', interface: null });
    expect(guard.wiped).toBe(true);
    close(reading);
    close(writing);
  });

  it('counts as tampered with when its other end is closed', async () => {
    const ends = new Int32Array(2);
    pipe2(ends, 0);
    const [reading = -1, writing = -1] = ends;
    await using guard = await Guard.start({ interfaces: ['CPU'], tamper: [reading] });
    close(writing);
    expect((await guard.struck()).cause).toBe('tamper');
    close(reading);
  });
});

describe('a carrier whose events the kernel delays', () => {
  it('is missed by no more than the poll: a flap of 50 ms that comes as one message', async () => {
    using tap = new Tap('tap0');
    await ip('link', 'set', 'tap0', 'up');
    await using guard = await Guard.start({ interfaces: ['tap0'] });
    const before = guard.interlock.status().watched[0];
    expect(before).toMatchObject({ interface: 'tap0', carrier: true });
    tap.carrier(false);
    await sleep(50);
    tap.carrier(true);
    expect(await guard.struck()).toMatchObject({ cause: 'link-flap', interface: 'tap0' });
  });

  it('is understood by its counters alone when down and up lie between two looks', async () => {
    using tap = new Tap('tap0');
    await ip('link', 'set', 'tap0', 'up');
    await using guard = await Guard.start({ interfaces: ['tap0'], pollMilliseconds: 200 });
    await sleep(20);
    tap.carrier(false);
    tap.carrier(true);
    const link = listInterfaces().find(({ name }) => name === 'tap0');
    expect(link).toMatchObject({ carrier: true });
    expect(await guard.struck()).toMatchObject({ cause: 'link-flap' });
  });

  it('is looked at in time although messages about other interfaces never cease', async () => {
    await addCable('near1', 'far1');
    using tap = new Tap('tap0');
    await ip('link', 'set', 'tap0', 'up');
    // A first event, after which the kernel reports no other of this kind within a second.
    tap.carrier(false);
    tap.carrier(true);
    await sleep(50);
    await using guard = await Guard.start({ interfaces: ['tap0', 'tap0'], pollMilliseconds: 50 });
    const storm = (milliseconds: number): void => {
      for (const start = performance.now(); performance.now() - start < milliseconds; ) {
        setCable('far1', 'down');
        setCable('far1', 'up');
      }
    };
    tap.carrier(false);
    tap.carrier(true);
    storm(300);
    expect(guard.wiped).toBe(true);
    expect((await guard.struck()).interface).toBe('tap0');
    await ip('link', 'delete', 'far1');
  });

  it('is found down although nobody told: the carrier was lost between the list and the watch', async () => {
    using tap = new Tap('tap0');
    await ip('link', 'set', 'tap0', 'up');
    const guard = new Guard({ interfaces: ['tap0'] });
    const { Interlock } = await import('../../src/interlock/interlock.ts');
    const starting = Interlock.start(guard.options);
    tap.carrier(false); // The worker thread takes longer to start than this.
    await expect(starting).rejects.toMatchObject({ code: 'watcher-lost' });
    expect(guard.outcomes).toMatchObject([{ cause: 'link-flap', interface: 'tap0' }]);
    expect(guard.wiped).toBe(true);
    await guard[Symbol.asyncDispose]();
  });
});

describe('an interlock that is stopped', () => {
  it('leaves no thread, no descriptor and no wipe behind', async () => {
    await addCable('near0', 'far0');
    const once = async (): Promise<void> => {
      const guard = await Guard.start();
      await guard.interlock[Symbol.asyncDispose]();
      await guard.interlock[Symbol.asyncDispose]();
      setCable('far0', 'down');
      await sleep(20);
      expect(guard.wiped).toBe(false);
      expect(existsSync(guard.statePath)).toBe(false);
      setCable('far0', 'up');
      await guard[Symbol.asyncDispose]();
    };
    await once();
    const threads = (): number => readdirSync('/proc/self/task').length;
    const before = { threads: threads(), descriptors: openDescriptors() };
    for (let round = 0; round < 3; round += 1) await once();
    await until('the threads to end', () => (threads() <= before.threads ? true : undefined));
    expect(openDescriptors()).toBe(before.descriptors);
    await ip('link', 'delete', 'far0');
  });

  it('ends without a descriptor left when it has struck', async () => {
    await addCable('near0', 'far0');
    const before = openDescriptors();
    {
      await using guard = await Guard.start();
      setCable('far0', 'down');
      await guard.struck();
    }
    await until('the descriptors to close', () => (openDescriptors() <= before ? true : undefined));
    await ip('link', 'delete', 'far0');
  });

  it('watches nothing but the clock and the operator where the node has no data interface', async () => {
    await using guard = await Guard.start({ interfaces: ['CPU', 'CPU[1]', 'any'] });
    expect(guard.interlock.status()).toMatchObject({ phase: 'armed', watched: [], window: null });
    const outcome = await guard.interlock.zeroize('operator', 'purge');
    expect(outcome).toMatchObject({ cause: 'operator', interface: null, level: 'purge' });
    expect(guard.wiped).toBe(true);
  });
});

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;
