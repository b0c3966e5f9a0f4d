// The probe on the bus of a lab node's TPM: every test with such a node ends with a search of what crossed it. Here it is shown
// that the search knows the secrets and finds them.
import { expect, it } from 'vitest';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import { requireChild } from '../../src/host/child.ts';
import { readSealedKey } from '../../src/keys/sealed.ts';
import { labNode, Scratch } from '../appliance/scene.ts';

it('the probe on the bus sees what a node says to its TPM, and a share that is read in clear fails the test', async () => {
  using scratch = new Scratch();
  const node = await labNode(scratch, 'bus', { tpm: true });
  let ended = false;
  try {
    const { tpm, keys } = await node.ask<ProvisionResult>(['provision']);
    expect(keys.length).toBeGreaterThan(1);
    expect(node.busSearch.secrets).toBe(3 * keys.length);
    await node.run();
    await node.stop();
    expect(node.bus.indexOf(Buffer.from(tpm?.srk.name ?? 'none', 'hex'))).toBeGreaterThan(0);
    expect(node.busSearch.sightings(node.bus)).toEqual([]);
    const [{ name = '' } = {}] = keys;
    const { shareIndex } = readSealedKey(stateLayout(node.stateDirectory).directory, name) ?? {};
    const words = ['-T', node.probedTcti, '-C', 'o', `0x${shareIndex?.toString(16)}`];
    const { stdout } = await requireChild('tpm2_nvread', words);
    expect(stdout).toHaveLength(32);
    ended = true;
    await expect(node[Symbol.asyncDispose]()).rejects.toThrow(`share of key ${name} as it is`);
  } finally {
    if (!ended) await node[Symbol.asyncDispose]();
  }
});
