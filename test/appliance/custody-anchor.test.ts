// The custody log against the head that the TPM holds: batches that were cut short are made up for, a log that was put back is told.
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collectForensics } from '../../src/appliance/collect.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import type { Finding } from '../../src/appliance/finding.ts';
import { anchorsOf, unanchored } from '../../src/custody/anchor.ts';
import { checkChain } from '../../src/custody/chain.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import { segmentsOf } from '../../src/custody/segments.ts';
import { utcNow } from '../../src/host/time.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { anchoredSoFar, wholeLog } from '../lab/custody.ts';
import { esotericJson, type LabNode } from '../lab/node.ts';
import { Bench } from './power.ts';
import { labNode, profile, Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

describe('the custody head in the TPM', () => {
  let node: LabNode;
  const log = (): string => `${node.stateDirectory}/custody.jsonl`;
  const held = async (): Promise<Uint8Array> => {
    const record = JSON.parse(readFileSync(`${node.stateDirectory}/node.json`, 'utf8')) as {
      tpm: { custodyIndex: number };
    };
    await using tpm = await openTpm({ tcti: node.tpm?.tcti ?? '' });
    return await tpm.nvRead(record.tpm.custodyIndex);
  };
  /** Extensions that the log asks for, and how many of them the TPM has had. */
  const standing = async (): Promise<[asked: number, had: number | undefined]> => {
    const chain = checkChain(wholeLog(log()));
    return [anchorsOf(chain).length, anchoredSoFar(chain, await held())];
  };
  interface Check {
    readonly ok: boolean;
    readonly head: { readonly sequence: number };
    readonly tpm: { readonly followed: number } | null;
  }
  const chainOf = async (archive: string) => {
    const enrolment = `${node.stateDirectory}/enrolment.json`;
    const { claims } = await esotericJson<{ claims: { claim: string; result: string; detail: string }[] }>(
      ['verify', archive, '--enrolment', enrolment, '--allow-bypassed'],
      { accept: [0, 3] },
    );
    return claims.find(({ claim }) => claim === 'custody chain');
  };
  const check = () => esotericJson<Check>(['custody', 'check', ...node.arguments], { accept: [0, 3] });
  /** By `doctor`. */
  const found = async () =>
    (await node.ask<Finding[]>(['doctor'])).find((finding) => finding.check === 'custody log');
  beforeAll(async () => {
    node = await labNode(scratch, 'anchored', { tpm: true });
    await node.ask(['provision', '--profile', profile('leaf')]);
  });
  afterAll(() => node[Symbol.asyncDispose]());

  it('follows the log from the first provisioning on', async () => {
    expect(Buffer.compare(await held(), unanchored)).not.toBe(0);
    expect(await standing()).toEqual([1, 1]);
    await node.run();
    expect(await standing()).toEqual([2, 2]);
    await node.ask<BundleMade>(['collect-forensics']);
    expect(await standing()).toEqual([3, 3]);
    await node.stop();
    expect(await standing()).toEqual([4, 4]);
  });

  it('is made up for where the node was killed before it got there', async () => {
    copyFileSync(log(), scratch.at('early.jsonl'));
    await node.run();
    node.kill();
    await node.stop();
    await node.run();
    await node.stop();
    const [asked, had] = await standing();
    expect(had).toBe(asked);
    expect(asked).toBe(7); // started, started and stopped more than before.
  });

  it('is what `custody check` and `doctor` hold the log against, whether the node runs or not', async () => {
    const whole = { ok: true, tpm: { followed: anchorsOf(checkChain(wholeLog(log()))).at(-1)?.sequence } };
    expect(await check()).toMatchObject(whole);
    const told = `what the TPM was told up to record ${whole.tpm.followed}`;
    expect(await found()).toMatchObject({ result: 'ok', detail: `whole, by its chain, and ${told}` });
    await node.run();
    const { head, tpm } = await check();
    expect(tpm?.followed).toBeGreaterThan(whole.tpm.followed ?? 0);
    expect(tpm?.followed).toBeLessThanOrEqual(head.sequence);
    await node.stop();
  });

  it('gives a log away that was put back to an earlier state', async () => {
    const whole = readFileSync(log());
    copyFileSync(scratch.at('early.jsonl'), log());
    expect(await check()).toMatchObject({ ok: false, problem: expect.stringContaining('another history') });
    await node.run();
    expect(node.log).toMatch(/alert {4}\S+: the custody log was rewritten/);
    expect((await standing())[1]).toBeUndefined();
    const problem = 'The TPM was told another history than the one in the custody log.';
    expect((await node.status()).custody?.found?.problem).toBe(problem);
    // Also to whoever has but a bundle of it, of the running node or of the stopped one.
    for (const running of [true, false]) {
      expect(await found()).toMatchObject({ result: 'missing', detail: problem });
      const { archive, problems } = await node.ask<BundleMade>(['collect-forensics']);
      expect(problems).toContain(
        'custody log: The TPM was told another history than the one in the custody log.',
      );
      expect(await chainOf(archive)).toMatchObject({
        result: 'failed',
        detail: 'The TPM was told another history than this custody log.',
      });
      if (running) await node.stop();
    }
    writeFileSync(log(), whole);
    await node.run();
    const [asked, had] = await standing();
    expect(had).toBe(asked);
    await node.stop();
  });

  it('goes on across a rotation of the log, and the bundle after it is held against the TPM as one before', async () => {
    const [before] = await standing();
    const told = node.log.length;
    {
      using grown = CustodyLog.open(log(), utcNow, 1);
      grown.append('full', {});
    }
    expect(segmentsOf(log())).toHaveLength(1);
    expect(checkChain(readFileSync(log())).ok).toBe(false); // The file alone is no log from the first record on.
    await node.run();
    expect(await standing()).toEqual([before + 1, before + 1]);
    expect(node.log.slice(told)).not.toContain('the custody log was rewritten');
    const { archive } = await node.ask<BundleMade>(['collect-forensics']);
    expect(await standing()).toEqual([before + 2, before + 2]);
    expect(await chainOf(archive)).toMatchObject({ result: 'proven', detail: expect.stringMatching(/TPM/) });
    await node.stop();
  });
});

describe('the wear of NV memory', () => {
  it('is one extension a provisioning and a bundle, and none where keys are opened or somebody looks', async () => {
    await using bench = await Bench.start();
    const [increment, extend] = [0x134, 0x136]; // TPM_CC of NV_Increment and NV_Extend
    const wear = async (work: () => Promise<unknown>) => {
      const codes = await bench.commandsOf(work);
      return [extend, increment].map((wanted) => codes.filter((code) => code === wanted).length);
    };
    const bundle = () => collectForensics(bench.config(), { reason: 'wear', upload: '' }, () => {});
    expect(await wear(() => bench.provision())).toEqual([1, 2]); // Both counters are begun.
    expect(await wear(bundle)).toEqual([1, 1]);
    expect(await wear(bundle)).toEqual([1, 1]);
    expect(await wear(() => bench.provision())).toEqual([0, 0]);
    expect(await wear(() => bench.openKeys())).toEqual([0, 0]);
    expect(await wear(() => bench.provision({ dryRun: true }))).toEqual([0, 0]);
  });
});
