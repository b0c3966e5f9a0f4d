// The power cut at every TPM command of provisioning and of what else changes the TPM: the same command then completes, with the
// same identity and with nothing in the TPM that a run without a cut would not have left there.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readNodeRecord } from '../../src/appliance/node-record.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import { checkChain } from '../../src/custody/chain.ts';
import { readIfPresent } from '../../src/host/durable.ts';
import { Lifecycle } from '../../src/keys/lifecycle.ts';
import { sealedKeysIn } from '../../src/keys/sealed.ts';
import { Bench, type Holdings, heldIn, owned, type When } from './power.ts';

type Cut = readonly [number: number, when: When];

/** Every command with its answer lost, and every third without the TPM having seen it: that is the cut after the one before it. */
const everyCut = (codes: readonly number[]): Cut[] =>
  codes.flatMap((_, at): Cut[] => [
    [at + 1, 'after'],
    ...(at % 3 === 0 ? [[at + 1, 'before'] as const] : []),
  ]);

/** Commands that change what a TPM keeps: EvictControl, NV_UndefineSpace, NV_DefineSpace, NV_Increment, NV_Write, DictionaryAttackParameters. */
const lasting = [0x120, 0x122, 0x12a, 0x134, 0x137, 0x13a];

/** The commands whose executions last, with the answer lost, the one after each of them, unseen, and the last command. */
const lastingCuts = (codes: readonly number[]): Cut[] => [
  ...codes.flatMap((code, at): Cut[] =>
    lasting.includes(code)
      ? [[at + 1, 'after'], ...(at + 2 <= codes.length ? [[at + 2, 'before'] as const] : [])]
      : [],
  ),
  [codes.length, 'after'],
];

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.start();
});
afterAll(async () => {
  await bench?.[Symbol.asyncDispose]();
});

const sealedFiles = (): Map<string, string> =>
  new Map(sealedKeysIn(bench.layout.directory).map((sealed) => [sealed.name, JSON.stringify(sealed)]));

const identityOf = ({ tpm }: ProvisionResult) => ({ srk: tpm?.srk, ak: tpm?.ak });

describe('a power cut', () => {
  let found: Holdings;
  let clean: ProvisionResult;
  let commands: number[] = [];
  beforeAll(async () => {
    await bench.save('found');
    found = await bench.holdings();
    expect(found.lockout.counter).toBe(0); // And so wherever the holdings are compared: no power cut may raise it.
    commands = await bench.commandsOf(async () => {
      clean = await bench.provision();
    });
    await bench.save('provisioned');
  });

  it('at any TPM command of provision leaves what the same command completes, with the same identity', async () => {
    await bench.load('provisioned');
    const held = await bench.holdings();
    expect(heldIn(held)).toEqual(owned(clean));
    expect(commands.length).toBeGreaterThan(50);
    for (const [number, when] of everyCut(commands)) {
      const cutAt = `${when} command ${number} of ${commands.length}`;
      await bench.load('found');
      await bench.cut(number, when, () => bench.provision());
      const sealed = sealedFiles();
      const known = readIfPresent(bench.layout.node) === undefined ? undefined : readNodeRecord(bench.layout);
      const made = await bench.provision();
      expect(identityOf(made), cutAt).toEqual(identityOf(clean));
      if (known !== undefined) expect(made.tpm?.signingKey.name, cutAt).toBe(known.tpm?.signingKey.name);
      for (const [name, file] of sealed) expect(sealedFiles().get(name), cutAt).toBe(file);
      expect(await bench.holdings(), cutAt).toEqual(held);
      expect(made.owns, cutAt).toEqual(clean.owns);
      const again = await bench.provision();
      expect(again, cutAt).toEqual({ ...made, changed: [] });
      expect(Object.keys(await bench.openKeys()), cutAt).toEqual(made.keys.map(({ name }) => name));
    }
    expect(checkChain(readFileSync(bench.layout.custody))).toMatchObject({ ok: true });
  }, 400_000);

  it('at any TPM command of deprovision leaves what the same command completes: the TPM is as it was found', async () => {
    await bench.load('provisioned');
    const its = await bench.commandsOf(() => bench.giveBack());
    expect(await bench.holdings()).toEqual(found);
    for (const [number, when] of lastingCuts(its)) {
      const cutAt = `${when} command ${number} of ${its.length}`;
      await bench.load('provisioned');
      await bench.cut(number, when, () => bench.giveBack());
      expect((await bench.giveBack()).removed, cutAt).toEqual(clean.owns);
      expect(await bench.holdings(), cutAt).toEqual(found);
    }
    expect(identityOf(await bench.provision())).toEqual(identityOf(clean));
  }, 180_000);

  it('in provision leaves what deprovision gives back to the last, lockout parameters included', async () => {
    for (const [number, when] of lastingCuts(commands)) {
      await bench.load('found');
      await bench.cut(number, when, () => bench.provision());
      const begun = [bench.layout.node, bench.layout.provisioning].some(
        (path) => readIfPresent(path) !== undefined,
      );
      if (begun) await bench.giveBack();
      expect(await bench.holdings(), `${when} command ${number} of ${commands.length}`).toEqual(found);
    }
  }, 180_000);

  it('in provision --recover leaves what the same command completes: the same keys, one share each', async () => {
    await bench.load('provisioned');
    const keys = await bench.openKeys();
    bench.replaceSigner();
    await bench.save('signer-lost');
    const its = await bench.commandsOf(() => bench.reseal());
    for (const [number, when] of lastingCuts(its)) {
      const cutAt = `${when} command ${number} of ${its.length}`;
      await bench.load('signer-lost');
      await bench.cut(number, when, () => bench.reseal());
      await bench.reseal();
      const made = await bench.provision();
      expect(made.approval, cutAt).toEqual({ state: 'approved', request: null });
      expect(heldIn(await bench.holdings()), cutAt).toEqual(owned(made));
      expect(await bench.openKeys(), cutAt).toEqual(keys);
      expect((await bench.provision()).changed, cutAt).toEqual([]);
    }
  }, 180_000);

  it('in provision --re-arm leaves what the same command completes, and never a node half armed', async () => {
    await bench.load('provisioned');
    const keys = await bench.openKeys();
    const { armedIndex } = readNodeRecord(bench.layout).tpm ?? { armedIndex: 0 };
    {
      await using tpm = await bench.open();
      await tpm.nvIncrement(armedIndex); // What *lock* does, beside the cap that the reset takes away.
    }
    writeFileSync(join(bench.layout.directory, 'state.json'), JSON.stringify({ state: 'zeroized' }));
    await bench.save('locked');
    const held = await bench.holdings();
    const rearm = () => bench.provision({ rearm: true });
    const its = await bench.commandsOf(rearm);
    for (const [number, when] of everyCut(its).filter((_, at) => at % 3 === 0)) {
      const cutAt = `${when} command ${number} of ${its.length}`;
      await bench.load('locked');
      const finished = await bench.cut(number, when, rearm);
      const { state } = new Lifecycle(bench.layout.directory).read();
      expect(state, cutAt).toBe(finished ? 'sealed' : 'zeroized');
      await rearm();
      expect(await bench.openKeys(), cutAt).toEqual(keys);
      expect(await bench.holdings(), cutAt).toEqual(held);
      expect((await bench.provision()).changed, cutAt).toEqual([]);
    }
  }, 180_000);
});
