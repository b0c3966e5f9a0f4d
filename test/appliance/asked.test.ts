import { readFileSync, renameSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { askedOf } from '../../src/appliance/asked.ts';
import type { Finding } from '../../src/appliance/finding.ts';
import { readNodeRecord } from '../../src/appliance/node-record.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { addCable, enterOwnNetwork } from '../lab/namespace.ts';
import type { LabNode } from '../lab/node.ts';
import { labNode, profile, refusalOf, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const record = (event: string, detail: Record<string, unknown>, second = 1): CustodyRecord => ({
  sequence: second,
  time: `2026-11-20T16:30:${String(second).padStart(2, '0')}Z`,
  event,
  detail,
  previous: '',
});
const ended = (second: number, interfaces: string[], keys?: Record<string, string>): CustodyRecord =>
  record(
    'maintenance-ended',
    { ask: ['rotate', 'appraise'], interfaces, ...(keys === undefined ? {} : { keys }) },
    second,
  );
const node = { keys: { wireguard: 'one' }, tpm: true, enrolment: '/enrolment.json' };
const whatOf = (records: CustodyRecord[], of: Parameters<typeof askedOf>[1] = node): string[] =>
  askedOf(records, of).map(({ what, since, interfaces }) => `${what} ${since} ${interfaces}`);

describe('what windows ask for', () => {
  it('is new keys and an appraisal, since the first of them, for the interfaces of all', () => {
    expect(whatOf([ended(1, ['a'], node.keys), ended(2, ['a', 'b'], node.keys)])).toEqual([
      'rotate 2026-11-20T16:30:01Z a,b',
      'appraise 2026-11-20T16:30:01Z a,b',
    ]);
  });

  it('is no rotation any more once the links have other keys, and no appraisal once somebody says so', () => {
    const windows = [ended(1, ['a'], node.keys), ended(2, ['b'], { wireguard: 'two' })];
    expect(whatOf(windows, { ...node, keys: { wireguard: 'two' } })).toEqual([
      'rotate 2026-11-20T16:30:02Z b',
      'appraise 2026-11-20T16:30:01Z a,b',
    ]);
    expect(whatOf(windows, { ...node, keys: { wireguard: 'three' } })).toHaveLength(1);
    const settled = [...windows, record('maintenance-settled', { what: 'appraise' }, 3)];
    expect(whatOf(settled, { ...node, keys: { wireguard: 'three' } })).toEqual([]);
    expect(whatOf([...settled, ended(4, ['c'], node.keys)])).toEqual([
      'rotate 2026-11-20T16:30:01Z a,c',
      'appraise 2026-11-20T16:30:04Z c',
    ]);
  });

  it('is nothing that the node does not have: a link to rotate, a TPM to appraise', () => {
    const windows = [ended(1, ['a'], {})];
    expect(whatOf(windows, { ...node, keys: {} })).toHaveLength(1);
    expect(whatOf(windows, { ...node, keys: {}, tpm: false })).toEqual([]);
    expect(whatOf([ended(1, ['a'], node.keys), record('deprovisioned', {}, 2)])).toEqual([]);
  });

  it('is a rotation where nobody can tell whether the keys are others: then, or now', () => {
    const unread = { wireguard: 'unknown' };
    expect(whatOf([ended(1, ['a'], unread)])).toHaveLength(2);
    expect(whatOf([ended(1, ['a'], node.keys)], { ...node, keys: unread })).toHaveLength(2);
    expect(whatOf([ended(1, ['a'], {})], { ...node, keys: unread })).toHaveLength(1);
  });

  it('is the safe answer for records of a time when keys were not noted', () => {
    expect(whatOf([ended(1, ['a'])])).toHaveLength(2);
  });
});

describe('after a maintenance window', () => {
  const publicKeyOf = ({ keys }: ProvisionResult): string | null | undefined =>
    keys.find(({ name }) => name === 'wireguard')?.publicKey;
  const sharesOf = (of: LabNode): Record<string, number> =>
    readNodeRecord(stateLayout(of.stateDirectory)).tpm?.shares ?? {};

  it('the node appraises itself, and asks until its keys have been rotated and somebody has settled the rest', async () => {
    enterOwnNetwork();
    await addCable('near0', 'far0');
    await using lab = await labNode(scratch, 'asked', {
      tpm: true,
      interfaces: ['near0'],
      configuration: `
[[links]]
name = "${`ea-a-${process.pid}`.slice(0, 15)}"
address = "10.213.80.1/30"
listen_port = 0
`,
    });
    const before = await lab.ask<ProvisionResult>(['provision', '--profile', profile('leaf')]);
    await lab.run();
    expect((await lab.status()).asked).toEqual([]);
    await lab.ask(['maintenance', 'begin', '--reason', 'a test']);
    await lab.ask(['maintenance', 'end']);
    const asked = async () => (await lab.status()).asked.map(({ what }) => what);
    expect(await asked()).toEqual(['rotate', 'appraise']);
    await until('its own appraisal', () => lab.log.includes('finds its TPM as it was enrolled') || undefined);
    expect(lab.log).toContain('asks for new keys and an appraisal');
    // A node that runs is asked: its custody log, which may be one of years, is not read for it.
    const { custody } = stateLayout(lab.stateDirectory);
    renameSync(custody, `${custody}.aside`);
    const doctor = await lab.ask<Finding[]>(['doctor']);
    renameSync(`${custody}.aside`, custody);
    expect(doctor.filter(({ check }) => check.startsWith('maintenance')).map(({ check }) => check)).toEqual([
      'maintenance: rotate',
      'maintenance: appraise',
    ]);
    const wrong = await refusalOf(['maintenance', 'settle', 'paint', '--reason', 'x', ...lab.arguments]);
    expect(wrong).toMatchObject({ status: 2, code: 'usage' });
    await lab.ask(['maintenance', 'settle', 'appraise', '--reason', 'Anna has']);
    const again = await refusalOf(['maintenance', 'settle', 'appraise', '--reason', 'x', ...lab.arguments]);
    expect(again.code).toBe('nothing-asked');
    await lab.stop();
    // What is asked for outlives the process.
    expect(await asked()).toEqual(['rotate']);

    const [former] = [sharesOf(lab).wireguard ?? 0];
    const rotated = await lab.ask<ProvisionResult>(['provision', '--rotate', 'wireguard']);
    expect(rotated.changed).toEqual(['key:wireguard', 'enrolment']);
    expect(publicKeyOf(rotated)).not.toBe(publicKeyOf(before));
    expect(sharesOf(lab).wireguard).not.toBe(former);
    {
      await using tpm = await openTpm({ tcti: lab.tpm?.tcti ?? '' });
      expect(await tpm.nvIndices()).not.toContain(former);
    }
    expect(readFileSync(`${lab.stateDirectory}/enrolment.json`, 'utf8')).toContain(publicKeyOf(rotated));
    expect(await asked()).toEqual([]);
    await lab.run(); // The approval that there was opens the new key: it is of this state, and for this name.
    expect(await asked()).toEqual([]);
    const unknown = await refusalOf(['provision', '--rotate', 'nothing', ...lab.arguments]);
    expect(unknown.code).toBe('state-in-use');
    await lab.stop();
    expect(await refusalOf(['provision', '--rotate', 'nothing', ...lab.arguments])).toMatchObject({
      status: 2,
      code: 'key-missing',
    });
  });
});
