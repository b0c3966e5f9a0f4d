import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stoppedCollectors } from '../../src/appliance/live-state.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import type { PastWindow } from '../../src/appliance/windows.ts';
import { readForbidden, windowsOf } from '../../src/appliance/windows.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import { linkState, listInterfaces, NetlinkSocket } from '../../src/host/netlink.ts';
import { setCable } from '../lab/cable.ts';
import { addCable, enterOwnNetwork } from '../lab/namespace.ts';
import type { LabNode } from '../lab/node.ts';
import { esoteric } from '../lab/node.ts';
import { labNode, profile, refusalOf, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const record = (event: string, detail: Record<string, unknown> = {}, sequence = 1): CustodyRecord => ({
  sequence,
  time: `2026-11-20T16:30:${String(sequence % 60).padStart(2, '0')}Z`,
  event,
  detail,
  previous: '',
});

describe('the windows that the custody log tells of', () => {
  const began = { interfaces: ['eth0'], reason: 'r', seconds: 60, flaps: 2 };

  it('count what passed in each, and say how each ended', () => {
    const windows = windowsOf([
      record('maintenance-began', began),
      record('planned-flap', { interface: 'eth0', flaps: 2 }),
      record('maintenance-ended', { why: 'done' }),
      record('planned-flap', { interface: 'eth0', flaps: 9 }),
      record('maintenance-began', began),
      record('zeroized'),
      record('maintenance-began', began),
    ]);
    expect(windows.map(({ why, flapsUsed, ended }) => [why, flapsUsed, ended !== null])).toEqual([
      ['done', 2, true],
      ['the node was zeroized', 0, true],
      [null, 0, false],
    ]);
  });

  it('are at most one at a time that is open, whatever the log holds', () => {
    const event = fc.constantFrom(
      'maintenance-began',
      'planned-flap',
      'maintenance-ended',
      'zeroized',
      'started',
    );
    fc.assert(
      fc.property(fc.array(event), (events) => {
        const windows = windowsOf(events.map((name) => record(name, { ...began, flaps: 1, why: 'w' })));
        expect(windows).toHaveLength(events.filter((name) => name === 'maintenance-began').length);
        expect(windows.slice(0, -1).filter(({ ended }) => ended === null)).toEqual([]);
      }),
    );
  });

  it('may not be opened for a day where it cannot be read until when they are forbidden', () => {
    const path = scratch.at('forbidden.json');
    writeFileSync(path, '{"until": "soon"}');
    expect(Date.parse(readForbidden(path)?.until ?? '')).toBeGreaterThan(Date.now() + 23 * 3_600_000);
  });

  it('spoil no bundle of a stopped node where that cannot be read', async () => {
    const layout = stateLayout(scratch.at('stopped'));
    mkdirSync(layout.directory);
    writeFileSync(layout.forbidden, '{"since": "2026-11-20T16:3');
    const state = await stoppedCollectors(layout)[0]?.gather(AbortSignal.timeout(5000));
    expect(JSON.parse(`${state}`).maintenanceForbidden.reason).toBe('its record cannot be read');
  });

  it('may be opened again once the time has passed until when they were forbidden', () => {
    const path = scratch.at('over.json');
    writeFileSync(path, '{"since": "2026-11-20T16:30:00Z", "until": "2026-11-20T16:40:00Z", "reason": "r"}');
    expect(readForbidden(path)).toBeUndefined();
  });
});

describe('maintenance of a running node', () => {
  let node: LabNode;
  const begin = ['maintenance', 'begin', '--reason', 'Anna replaces the cable'];
  beforeAll(async () => {
    enterOwnNetwork();
    await addCable('near0', 'far0');
    node = await labNode(scratch, 'windows', { interfaces: ['near0'] });
    await node.ask(['provision', '--profile', profile('leaf')]);
    await node.run();
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const list = () =>
    node.ask<{ windows: PastWindow[]; forbidden: { reason: string } | null }>(['maintenance', 'list']);

  it('is listed with what passed in it, and asks at its end for rotation and appraisal', async () => {
    await node.ask([...begin, '--flaps', '5']);
    setCable('far0', 'down');
    setCable('far0', 'up');
    await until('the flap', async () => (await list()).windows[0]?.flapsUsed || undefined);
    await node.ask(['maintenance', 'end']);
    expect((await list()).windows).toMatchObject([
      {
        interfaces: ['near0'],
        reason: 'Anna replaces the cable',
        flaps: 5,
        flapsUsed: 1,
        why: 'the operator ended it',
      },
    ]);
    const custody = await node.ask<CustodyRecord[]>(['custody', 'show']);
    expect(custody.at(-1)).toMatchObject({
      event: 'maintenance-ended',
      detail: { ask: ['rotate', 'appraise'], interfaces: ['near0'] },
    });
    const shown = await esoteric(['maintenance', 'list', ...node.arguments]);
    expect(shown.stdout.toString()).toContain('Anna replaces the cable (the operator ended it)');
  });

  it('asks for whole numbers and a reason, and says what the hour leaves of the flaps', async () => {
    for (const [wrong, words] of [
      [['--flaps', '1.5', '--reason', 'r'], 'a whole number from 1 to 1000'],
      [['--duration', '1.5', '--reason', 'r'], 'a whole number from 1 to 86400'],
      [['--reason', ' '], 'The reason is empty'],
    ] as const) {
      const refused = await refusalOf(['maintenance', 'begin', ...wrong, ...node.arguments]);
      expect(refused).toMatchObject({ status: 2, code: 'usage', message: expect.stringContaining(words) });
    }
    const { stdout } = await esoteric([...begin, '--flaps', '5', ...node.arguments]);
    expect(stdout.toString()).toContain('Within this hour 2 of them are allowed');
    await node.ask(['maintenance', 'end']);
  });

  it('leaves no name in the log as it lies on disk and in bundles', async () => {
    const written = readFileSync(`${node.stateDirectory}/custody.jsonl`, 'utf8');
    expect(written).toContain('planned-flap');
    for (const name of ['near0', 'Anna']) expect(written).not.toContain(name);
    const raw = JSON.stringify(await node.ask(['custody', 'show', '--raw']));
    expect(raw).toContain('hmac-sha256:');
    expect(raw).not.toContain('Anna');
  });

  it('is forbidden in a criticality window, which a restart does not end, until it is allowed', async () => {
    await node.ask(['maintenance', 'forbid', '--duration', '600', '--reason', 'the election']);
    expect(await refusalOf([...begin, ...node.arguments])).toMatchObject({ code: 'maintenance-forbidden' });
    const shorter = ['maintenance', 'forbid', '--duration', '60', '--reason', 'shorter'];
    expect((await refusalOf([...shorter, ...node.arguments])).code).toBe('maintenance-forbidden');
    expect(await node.ask(['maintenance', 'status'])).toMatchObject({
      forbidden: { reason: 'the election' },
    });
    await node.stop();
    expect((await list()).forbidden).toMatchObject({ reason: 'the election' });
    await node.run();
    expect((await refusalOf([...begin, ...node.arguments])).message).toContain('the election');
    await node.ask(['maintenance', 'allow']);
    expect((await list()).forbidden).toBeNull();
    expect(node.log).toMatch(/Maintenance windows can be opened again, before \S+Z\./);
  });

  it('ends with its process, and its flaps count for their hour in the next one', async () => {
    await node.ask([...begin, '--flaps', '2']);
    for (const flapsUsed of [1, 2]) {
      setCable('far0', 'down');
      setCable('far0', 'up');
      await until(
        'the flap',
        async () => (await list()).windows.at(-1)?.flapsUsed === flapsUsed || undefined,
      );
    }
    expect((await refusalOf(['maintenance', 'forbid', '--reason', 'x', ...node.arguments])).code).toBe(
      'window-open',
    );
    const lastShown = async () =>
      (await esoteric(['maintenance', 'list', ...node.arguments])).stdout
        .toString()
        .trim()
        .split('\n')
        .at(-1);
    expect(await lastShown()).toMatch(/^\S+ +open /);
    node.kill();
    await node.stop();
    expect(await lastShown()).toMatch(/^\S+ +with the node /);
    await node.run();
    expect((await list()).windows.at(-1)).toMatchObject({ why: 'its process ended', flapsUsed: 2 });
    expect(await refusalOf([...begin, ...node.arguments])).toMatchObject({ code: 'window-refused' });
  });
});

describe('the rule of three in an hour', () => {
  it('ends the window at the fourth, alerts, and the next flap is unplanned', async () => {
    enterOwnNetwork();
    await addCable('near0', 'far0');
    await using node = await labNode(scratch, 'thrice', { interfaces: ['near0'] });
    await node.ask(['provision', '--profile', profile('leaf')]);
    await node.run();
    await node.ask(['maintenance', 'begin', '--flaps', '9', '--reason', 'a loose contact']);
    const far = listInterfaces().find(({ name }) => name === 'far0')?.index ?? 0;
    using hand = new NetlinkSocket({ events: false });
    const [down, up] = [linkState(far, false), linkState(far, true)];
    // The node looks again when all four are over: a cable that is still down when the window ends would zeroize.
    process.kill(node.pid, 'SIGSTOP');
    try {
      for (let flap = 0; flap < 4; flap += 1) for (const message of [down, up]) hand.send(message);
    } finally {
      process.kill(node.pid, 'SIGCONT');
    }
    const over = async () => (await node.ask<{ window: unknown }>(['maintenance', 'status'])).window === null;
    await until('the window to end', async () => (await over()) || undefined);
    expect((await node.status()).state).toBe('running');
    expect(node.log).toContain('a maintenance window was ended early');
    setCable('far0', 'down');
    expect(await until('a zeroize', async () => (await node.status()).zeroize?.cause)).toBe('link-flap');
  });
});

describe('custody check against a head held elsewhere', () => {
  it('finds what was cut off or rewritten, and takes a head from a bundle', async () => {
    await using node = await labNode(scratch, 'heads');
    await node.ask(['provision', '--profile', profile('leaf')]);
    const made = await node.ask<{ sigstore: string }>(['collect-forensics', '--reason', 'a test']);
    const check = (against: string, accept = [0]) =>
      node.ask<{ ok: boolean; problem?: string; head: { sequence: number; hash: string } }>(
        ['custody', 'check', '--against', against],
        accept,
      );
    const { head, ok } = await check(made.sigstore);
    expect(ok).toBe(true);
    const later = `${head.sequence}:${head.hash}`;
    const path = `${node.stateDirectory}/custody.jsonl`;
    const lines = readFileSync(path, 'utf8').split('\n');
    writeFileSync(path, `${lines.slice(0, 1).join('\n')}\n`);
    expect((await node.ask<{ ok: boolean }>(['custody', 'check'])).ok).toBe(true);
    for (const against of [made.sigstore, later])
      expect(await check(against, [3])).toMatchObject({
        ok: false,
        problem: expect.stringContaining('seen earlier'),
      });
    expect(await check(`${node.stateDirectory}/enrolment.json`)).toMatchObject({ ok: true });
    const nonsense = await refusalOf(['custody', 'check', '--against', 'nonsense', ...node.arguments]);
    expect(nonsense).toMatchObject({ status: 2, code: 'head-unreadable' });
  });
});
