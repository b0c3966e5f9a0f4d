// The power cut at every TPM command of provisioning and of what else changes the TPM: the same command then completes, with the
// same identity and with nothing in the TPM that a run without a cut would not have left there.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answerChallenge } from '../../src/appliance/approve.ts';
import { deprovision } from '../../src/appliance/deprovision.ts';
import { readNodeRecord } from '../../src/appliance/node-record.ts';
import { type ProvisionResult, provision } from '../../src/appliance/provision.ts';
import { parseSignature, recover } from '../../src/appliance/recover.ts';
import { checkChain } from '../../src/custody/chain.ts';
import { readIfPresent } from '../../src/host/durable.ts';
import { Failure } from '../../src/host/failure.ts';
import { Lifecycle } from '../../src/keys/lifecycle.ts';
import { sealedKeysIn } from '../../src/keys/sealed.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { Bench, type Holdings } from './power.ts';

type When = 'before' | 'after';
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

/** The command, with the power cut at one of its TPM commands; then the machine starts again. */
async function cut(number: number, when: When, command: () => Promise<unknown>): Promise<void> {
  bench.proxy.killAt(number, when);
  const outcome = await command().then(
    () => 'done',
    (error: unknown) => error,
  );
  // Where the last answers are lost, the command may have come to its end without them.
  if (outcome !== 'done') {
    expect(outcome, `${when} command ${number}`).toBeInstanceOf(Failure);
    expect((outcome as Failure).code).toMatch(/^tpm-(connection-lost|unreachable)$/);
  }
  await bench.boot();
}

/** The TPM commands that it consists of. */
async function commandsOf(command: () => Promise<unknown>): Promise<number[]> {
  bench.proxy.reset();
  await command();
  return bench.proxy.codes;
}

const sealedFiles = (): Map<string, string> =>
  new Map(sealedKeysIn(bench.layout.directory).map((sealed) => [sealed.name, JSON.stringify(sealed)]));

const identityOf = ({ tpm }: ProvisionResult) => ({ srk: tpm?.srk, ak: tpm?.ak });

/** The handles of what a node says it owns. */
const owned = ({ owns }: ProvisionResult): string[] =>
  owns.map(({ handle }) => handle.slice(2).replace(/^0/, '')).sort();
const heldIn = ({ objects, indices }: Holdings): string[] =>
  [...Object.keys(objects), ...Object.keys(indices)].sort();

describe('a power cut', () => {
  let found: Holdings;
  let clean: ProvisionResult;
  let commands: number[] = [];
  beforeAll(async () => {
    await bench.save('found');
    found = await bench.holdings();
    expect(found.lockout.counter).toBe(0); // And so wherever the holdings are compared: no power cut may raise it.
    commands = await commandsOf(async () => {
      clean = await provision(bench.config());
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
      await cut(number, when, () => provision(bench.config()));
      const sealed = sealedFiles();
      const known = readIfPresent(bench.layout.node) === undefined ? undefined : readNodeRecord(bench.layout);
      const made = await provision(bench.config());
      expect(identityOf(made), cutAt).toEqual(identityOf(clean));
      if (known !== undefined) expect(made.tpm?.signingKey.name, cutAt).toBe(known.tpm?.signingKey.name);
      for (const [name, file] of sealed) expect(sealedFiles().get(name), cutAt).toBe(file);
      expect(await bench.holdings(), cutAt).toEqual(held);
      expect(made.owns, cutAt).toEqual(clean.owns);
      const again = await provision(bench.config());
      expect(again, cutAt).toEqual({ ...made, changed: [] });
      expect(Object.keys(await bench.openKeys()), cutAt).toEqual(made.keys.map(({ name }) => name));
    }
    expect(checkChain(readFileSync(bench.layout.custody))).toMatchObject({ ok: true });
  }, 120_000);

  it('at any TPM command of deprovision leaves what the same command completes: the TPM is as it was found', async () => {
    await bench.load('provisioned');
    const giveBack = () => deprovision(bench.config(), { confirmed: true, keepStorageRoot: false });
    const its = await commandsOf(giveBack);
    expect(await bench.holdings()).toEqual(found);
    for (const [number, when] of lastingCuts(its)) {
      const cutAt = `${when} command ${number} of ${its.length}`;
      await bench.load('provisioned');
      await cut(number, when, giveBack);
      expect((await giveBack()).removed, cutAt).toEqual(clean.owns);
      expect(await bench.holdings(), cutAt).toEqual(found);
    }
    expect(identityOf(await provision(bench.config()))).toEqual(identityOf(clean));
  }, 60_000);

  it('in provision leaves what deprovision gives back to the last, lockout parameters included', async () => {
    for (const [number, when] of lastingCuts(commands)) {
      await bench.load('found');
      await cut(number, when, () => provision(bench.config()));
      const begun = [bench.layout.node, bench.layout.provisioning].some(
        (path) => readIfPresent(path) !== undefined,
      );
      if (begun) await deprovision(bench.config(), { confirmed: true, keepStorageRoot: false });
      expect(await bench.holdings(), `${when} command ${number} of ${commands.length}`).toEqual(found);
    }
  }, 60_000);

  it('in provision --recover leaves what the same command completes: the same keys, one share each', async () => {
    await bench.load('provisioned');
    const keys = await bench.openKeys();
    const successor = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    writeFileSync(
      join(bench.layout.development, 'signer.pem'),
      successor.export({ type: 'pkcs8', format: 'pem' }),
    );
    await bench.save('signer-lost');
    const recoveryKey = join(bench.layout.development, 'recovery.pem');
    const reseal = () =>
      recover(
        bench.config(),
        async (challenge) =>
          parseSignature(answerChallenge(JSON.stringify(challenge), recoveryKey).signature),
        () => {},
      );
    const its = await commandsOf(reseal);
    for (const [number, when] of lastingCuts(its)) {
      const cutAt = `${when} command ${number} of ${its.length}`;
      await bench.load('signer-lost');
      await cut(number, when, reseal);
      await reseal();
      const made = await provision(bench.config());
      expect(made.approval, cutAt).toEqual({ state: 'approved', request: null });
      expect(heldIn(await bench.holdings()), cutAt).toEqual(owned(made));
      expect(await bench.openKeys(), cutAt).toEqual(keys);
      expect((await provision(bench.config())).changed, cutAt).toEqual([]);
    }
  }, 60_000);

  it('in provision --re-arm leaves what the same command completes, and never a node half armed', async () => {
    await bench.load('provisioned');
    const keys = await bench.openKeys();
    const { armedIndex } = readNodeRecord(bench.layout).tpm ?? { armedIndex: 0 };
    {
      await using tpm = await openTpm({ tcti: bench.swtpm.tcti });
      await tpm.nvIncrement(armedIndex); // What *lock* does, beside the cap that the reset takes away.
    }
    writeFileSync(join(bench.layout.directory, 'state.json'), JSON.stringify({ state: 'zeroized' }));
    await bench.save('locked');
    const held = await bench.holdings();
    const rearm = () => provision(bench.config(), { rearm: true });
    const its = await commandsOf(rearm);
    for (const [number, when] of everyCut(its).filter((_, at) => at % 3 === 0)) {
      const cutAt = `${when} command ${number} of ${its.length}`;
      await bench.load('locked');
      await cut(number, when, rearm);
      const { state } = new Lifecycle(bench.layout.directory).read();
      if (number < its.length) expect(state, cutAt).toBe('zeroized');
      await rearm();
      expect(await bench.openKeys(), cutAt).toEqual(keys);
      expect(await bench.holdings(), cutAt).toEqual(held);
      expect((await provision(bench.config())).changed, cutAt).toEqual([]);
    }
  }, 60_000);
});
