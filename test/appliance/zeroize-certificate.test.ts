import { describe, expect, it } from 'vitest';
import { fatesOf, type HeldKey } from '../../src/appliance/zeroize-certificate.ts';
import type { ZeroizeOutcome } from '../../src/interlock/outcome.ts';

type Stages = ZeroizeOutcome['stages'];
const stages = (over: {
  failures?: number;
  tpm?: Stages['tpm']['result'];
  disk?: Stages['disk']['result'];
}) => ({
  memory: { micros: 1 },
  kernel: { micros: 1, failures: over.failures ?? 0 },
  tpm: { micros: 1, result: over.tpm ?? 'done' },
  disk: { micros: 1, result: over.disk ?? 'done' },
});

const record = {
  tpm: {},
  keys: [
    { name: 'wireguard', purpose: 'wireguard' },
    { name: 'drbg-seed', purpose: 'seed' },
  ],
} as unknown as Parameters<typeof fatesOf>[0]['record'];
const held: HeldKey[] = [
  { name: 'wireguard', purpose: 'wireguard', linked: true },
  { name: 'drbg-seed', purpose: 'seed', linked: false },
];
const fates = (level: 'purge' | 'lock' | 'destroy', known: Stages | null, over: object = {}) =>
  Object.fromEntries(
    fatesOf({ record, held, retained: false, ...over }, { level, stages: known }).map(
      ({ name, fate, atRest }) => [name, `${fate} | ${atRest ?? ''}`],
    ),
  );

describe('the fates in a zeroize certificate', () => {
  it('say of each level what is left at rest', () => {
    expect(fates('purge', stages({ tpm: 'not part of this level' }))).toMatchObject({
      wireguard: 'destroyed in memory and in its link | kept, sealed: it opens at the next start',
      'seed file': 'destroyed in memory | kept, encrypted under the key drbg-seed',
    });
    expect(fates('lock', stages({}))).toMatchObject({
      'drbg-seed': 'destroyed in memory | kept, sealed: it opens under a new approval only',
    });
    expect(fates('destroy', stages({}))).toEqual({
      wireguard:
        'destroyed in memory and in its link | overwritten and removed; its share is gone from the TPM',
      'drbg-seed': 'destroyed in memory | overwritten and removed; its share is gone from the TPM',
      'DRBG and pool': 'destroyed in memory | ',
      'seed file': 'destroyed in memory | overwritten and removed',
    });
  });

  it('claim nothing of a stage that failed', () => {
    const failed = 'failed (0x1)';
    expect(fates('lock', stages({ failures: 2, tpm: failed })).wireguard).toBe(
      'destroyed in memory; 2 links could not be removed | kept, sealed; locking the TPM failed (0x1)',
    );
    expect(fates('destroy', stages({ tpm: failed, disk: failed }))).toMatchObject({
      wireguard: expect.stringContaining(
        'overwriting it failed (0x1); taking its share from the TPM failed (0x1)',
      ),
      'seed file': 'destroyed in memory | overwriting it failed (0x1)',
    });
  });

  it('tell of keys that were made for one run, of a seed file in clear, and of what the courier keeps', () => {
    const bypassed = { record: { ...record, tpm: null }, retained: true };
    expect(fates('lock', stages({ tpm: 'not part of this level' }), bypassed)).toMatchObject({
      wireguard: 'destroyed in memory and in its link | nowhere: made for this run alone',
      'seed file': 'destroyed in memory | kept in clear, for its owner alone; it counts for nothing',
      'delivery credentials': 'retained, in a process of its own | ',
    });
  });

  it('take all stages for done where the process that ran them was killed afterwards', () => {
    expect(fates('destroy', null)).toEqual(fates('destroy', stages({})));
  });
});
