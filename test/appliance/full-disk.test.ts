import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Outbox } from '../../src/alerts/outbox.ts';
import { Announcer } from '../../src/appliance/announce.ts';
import { configSchema } from '../../src/appliance/config-schema.ts';
import { tellInterrupted } from '../../src/appliance/incident.ts';
import type { NodeRecord } from '../../src/appliance/node-record.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import type { ZeroizeOutcome } from '../../src/interlock/outcome.ts';
import { SmallDisk } from '../lab/small-disk.ts';
import { labNode, profile, refusalOf, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

describe('a custody log on a full disk', () => {
  let disk: SmallDisk;
  beforeEach(async () => {
    disk = await SmallDisk.create(scratch.at('small'), 1 << 20);
  });
  afterEach(() => disk[Symbol.asyncDispose]());

  it('refuses what it cannot write, and goes on where it was once there is room', () => {
    using log = CustodyLog.open(scratch.at('small', 'custody.jsonl'));
    log.append('one', { interface: 'eth0' });
    disk.fill();
    const long = { words: 'x'.repeat(8192) };
    for (let tries = 0; tries < 3; tries += 1)
      expect(() => log.append('two', long)).toThrow(
        expect.objectContaining({ code: 'custody-unwritable', remedy: expect.stringContaining('room') }),
      );
    disk.relieve();
    log.append('three', { interface: 'another name' });
    log.append('four', { interface: 'eth0' });
    const records = [...log.records()];
    expect(records.map(({ event }) => event)).toEqual(['one', 'three', 'four']);
    expect(records[1]?.detail).toEqual({ interface: 'another name' });
  });

  it('leaves no half of the key of its names', () => {
    using log = CustodyLog.open(scratch.at('small', 'custody.jsonl'));
    disk.fill();
    expect(() => log.append('one', { interface: 'eth0' })).toThrow('cannot be written');
    disk.relieve();
    log.append('one', { interface: 'eth0' });
    expect([...log.records()][0]?.detail).toEqual({ interface: 'eth0' });
  });

  it('holds up no word of a zeroize that was interrupted, which has one key until it is recorded', () => {
    const layout = stateLayout(scratch.at('small'));
    mkdirSync(scratch.at('spool'));
    const raised: string[] = [];
    const config = configSchema.parse({ node: { name: 'alpha', state_dir: layout.directory } });
    using custody = CustodyLog.open(layout.custody);
    using announcer = new Announcer(config, { ...layout, spool: scratch.at('spool') }, (line) => {
      if (line.includes('could not tell before now')) raised.push(/\[(.*)\]/.exec(line)?.[1] ?? '');
    });
    const record = { node: 'alpha' } as NodeRecord;
    const start = () => tellInterrupted('operator', true, { record, layout, custody, announcer });
    custody.append('started', {});
    disk.fill();
    expect(() => {
      for (;;) custody.append('more', {});
    }).toThrow('cannot be written');
    start();
    disk.relieve();
    start();
    start();
    const key = `alpha-zeroize-${custody.head().sequence}`;
    expect(raised).toEqual([key, key]);
  });
});

it('an outbox on a full disk says so, keeps what it has, and goes on once there is room', async () => {
  const disk = await SmallDisk.create(scratch.at('outbox'), 1 << 20);
  try {
    using outbox = new Outbox(join(disk.path, 'outbox.sqlite'));
    const job = (key: string) => ({ kind: 'bundle', key, payload: { archive: 'x'.repeat(20_000) } }) as const;
    outbox.enqueue(job('first'));
    disk.fill();
    const full = expect.objectContaining({
      code: 'outbox-unusable',
      message: expect.stringContaining('disk is full'),
      remedy: expect.stringContaining('free space'),
    });
    expect(() => outbox.enqueue(job('second'))).toThrow(full);
    disk.relieve();
    outbox.enqueue(job('second'));
    expect(outbox.status().map(({ key }) => key)).toEqual(['second', 'first']);
  } finally {
    await disk[Symbol.asyncDispose]();
  }
});

describe('a node whose disk is full', () => {
  it('zeroizes all the same, stays zeroized, and is finished and told once there is room', async () => {
    const node = await labNode(scratch, 'full');
    const disk = await SmallDisk.create(node.stateDirectory, 8 << 20);
    try {
      await node.ask(['provision', '--profile', profile('leaf')]);
      await node.run();
      disk.fill();
      const outcome = await node.ask<ZeroizeOutcome>(['zeroize', '--reason', 'a test', '--level', 'lock']);
      expect(outcome).toMatchObject({ level: 'lock', stages: { disk: { result: 'failed (0x1)' } } });
      expect((await node.status()).state).toBe('zeroized');
      node.kill();
      await node.stop();
      expect(JSON.parse(readFileSync(`${node.stateDirectory}/state.json`, 'utf8'))).toMatchObject({
        state: 'sealed',
      });
      expect((await node.status()).state).toBe('zeroized');
      const refusal = await refusalOf(['run', ...node.arguments]);
      expect(refusal.code).toMatch(/^(zeroize-unfinished|custody-unwritable)$/);
      expect(refusal.remedy).toMatch(/room/i);
      disk.relieve();
      expect(await refusalOf(['run', ...node.arguments])).toMatchObject({ status: 4, code: 'zeroized' });
      // Short records may have found room in the log's last block; the end of the story does in any case.
      const events = (await node.ask<CustodyRecord[]>(['custody', 'show'])).map(({ event }) => event);
      expect(events.slice(0, 2)).toEqual(['provisioned', 'started']);
      expect(events).toContain('zeroize-finished');
      expect((await node.status()).alerts.queued).toBeGreaterThan(0);
    } finally {
      await node[Symbol.asyncDispose]();
      await disk[Symbol.asyncDispose]();
    }
  });

  it('keeps an alert that finds no room, and hands it on once there is some', async () => {
    const node = await labNode(scratch, 'unspooled', { configuration: '[courier]\nspawn = false\n' });
    const disk = await SmallDisk.create(node.stateDirectory, 8 << 20);
    try {
      await node.ask(['provision', '--profile', profile('leaf')]);
      await node.run();
      disk.fill();
      await node.ask(['alert', 'test']);
      expect((await node.status()).alerts.queued).toBe(0);
      disk.relieve();
      await until('the alert', async () => (await node.status()).alerts.queued === 1 || undefined);
    } finally {
      await node[Symbol.asyncDispose]();
      await disk[Symbol.asyncDispose]();
    }
  });
});
