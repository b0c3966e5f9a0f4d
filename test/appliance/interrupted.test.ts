import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { Announcer } from '../../src/appliance/announce.ts';
import { configSchema } from '../../src/appliance/config-schema.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import { tellInterrupted } from '../../src/appliance/incident.ts';
import type { NodeRecord } from '../../src/appliance/node-record.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import type { VerifyReport } from '../../src/forensics/claims.ts';
import { readMarker } from '../../src/interlock/marker.ts';
import { Lifecycle } from '../../src/keys/lifecycle.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { esoteric, esotericWords, type LabNode } from '../lab/node.ts';
import { labNode, profile, refusalOf, Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const capPcr = 14;

async function cap(node: LabNode): Promise<string> {
  await using tpm = await openTpm({ tcti: node.tpm?.tcti ?? '' });
  return Buffer.from((await tpm.pcrRead('sha256', [capPcr])).get(capPcr) ?? []).toString('hex');
}

/** Kills the node between the kernel stage and the TPM stage, for which a TPM is held that does not answer meanwhile. */
async function killBetweenStages(node: LabNode): Promise<void> {
  const statePath = new Lifecycle(node.stateDirectory).path;
  const swtpm = node.tpm?.pid ?? 0;
  process.kill(swtpm, 'SIGSTOP');
  try {
    const [program = '', ...words] = esotericWords(['zeroize', '--reason', 'a test', ...node.arguments]);
    const asking = spawn(program, words, { stdio: 'ignore' });
    const ended = once(asking, 'exit');
    for (let waited = 0; waited < 20_000 && !readMarker(statePath)?.done.includes('kernel'); waited += 2)
      await sleep(2);
    node.kill();
    await ended;
  } finally {
    process.kill(swtpm, 'SIGCONT');
  }
  await node.stop();
}

describe('a zeroize that is killed after its stages', () => {
  /** The keys of the alerts that the next start raises, after these records of the last run. */
  const raisedAfter = (word: string, ...told: [event: string, detail: object][]): string[] => {
    const layout = stateLayout(scratch.at(word));
    mkdirSync(layout.spool, { recursive: true });
    const config = configSchema.parse({ node: { name: 'alpha', state_dir: layout.directory } });
    const raised: string[] = [];
    using announcer = new Announcer(config, layout, (line) => {
      const key = /could not tell before now \[(.*)\]/.exec(line)?.[1];
      if (key !== undefined) raised.push(key);
    });
    using custody = CustodyLog.open(layout.custody);
    for (const [event, detail] of told) custody.append(event, detail);
    const record = { node: 'alpha' } as NodeRecord;
    for (let starts = 0; starts < 2; starts += 1)
      tellInterrupted('operator', true, { record, layout, custody, announcer });
    return raised;
  };

  it('wakes nobody twice: where no bundle was to follow, its alert has the key of the one that was raised then', () => {
    const before: [string, object] = ['started', {}];
    expect(raisedAfter('untold', before)).toEqual(['alpha-zeroize-2']);
    expect(
      raisedAfter('no-bundle', before, ['zeroized', { bundle: false }], ['zeroize-certified', {}]),
    ).toEqual(['alpha-zeroize-2']);
    // The alert had promised a bundle, and there is none: that is news.
    expect(
      raisedAfter('promised', before, ['zeroized', { bundle: true }], ['zeroize-certified', {}]),
    ).toEqual(['alpha-zeroize-4']);
    const begun: [string, object] = ['bundle-begun', { sequence: 1, reason: 'zeroize: operator' }];
    expect(raisedAfter('begun', before, ['zeroized', { bundle: true }], begun)).toEqual([]);
  });
});

describe('a zeroize that is killed between two stages', () => {
  it('counts as one at once, is finished at the next start, and locks the TPM then', async () => {
    await using node = await labNode(scratch, 'halfway', { tpm: true });
    const statePath = new Lifecycle(node.stateDirectory).path;
    await node.ask(['provision', '--profile', profile('leaf')]);
    await node.run();
    await killBetweenStages(node);
    expect(readMarker(statePath)).toMatchObject({ cause: 'operator', level: 'lock', done: ['kernel'] });
    expect(JSON.parse(readFileSync(statePath, 'utf8'))).toMatchObject({ state: 'sealed' });
    // The command that was on its way may have reached the TPM: what counts is that it is sent again.
    const before = await cap(node);
    expect(await node.status()).toMatchObject({
      state: 'zeroized',
      zeroize: { cause: 'operator', level: 'lock' },
    });

    expect(await refusalOf(['run', ...node.arguments])).toMatchObject({ status: 4, code: 'zeroized' });
    expect(readMarker(statePath)).toBeUndefined();
    expect(await cap(node)).not.toBe(before);
    const custody = await node.ask<CustodyRecord[]>(['custody', 'show']);
    expect(custody.find(({ event }) => event === 'zeroize-finished')?.detail).toMatchObject({
      cause: 'operator',
      level: 'lock',
      done: ['kernel'],
      stages: { tpm: { result: 'done' }, disk: { result: 'done' } },
    });
    expect(custody.map(({ event }) => event)).toContain('zeroize-interrupted');
    const certificate = readFileSync(`${node.stateDirectory}/zeroize-certificate.json`, 'utf8');
    expect(JSON.parse(certificate)).toMatchObject({
      asserted: { cause: 'operator', level: 'lock', interrupted: true, stages: { tpm: { result: 'done' } } },
      proven: { pcrs: { 14: expect.stringMatching(/[1-9a-f]/) } },
    });
    const certified = custody.filter(({ event }) => event === 'zeroize-certified');
    expect(certified).toMatchObject([{ detail: { quoted: true } }]);
    // Made once, and part of what is collected.
    await refusalOf(['run', ...node.arguments]);
    expect(readFileSync(`${node.stateDirectory}/zeroize-certificate.json`, 'utf8')).toBe(certificate);
    const { archive } = await node.ask<BundleMade>(['collect-forensics']);
    const verified = await esoteric([
      ...['verify', archive, '--json', '--allow-bypassed'],
      ...['--enrolment', `${node.stateDirectory}/enrolment.json`],
    ]);
    const { claims } = JSON.parse(verified.stdout.toString()) as VerifyReport;
    expect(claims.filter(({ result }) => result === 'failed')).toEqual([]);
    expect(claims.find(({ claim }) => claim === 'zeroize')?.detail).toMatch(/^The TPM signed the zeroize/);
    expect((await refusalOf(['provision', '--re-arm', ...node.arguments])).code).toBe('tpm-still-capped');
    await node.reboot();
    await node.ask<ProvisionResult>(['provision', '--re-arm']);
    await node.run();
    expect((await node.status()).state).toBe('running');
  });

  it('is certified and told of by `provision --re-arm` too, where that comes first', async () => {
    await using node = await labNode(scratch, 'halfway-re-arm', { tpm: true });
    await node.ask(['provision', '--profile', profile('leaf')]);
    await node.run();
    await killBetweenStages(node);
    for (let times = 0; times < 2; times += 1)
      expect((await refusalOf(['provision', '--re-arm', ...node.arguments])).code).toBe('tpm-still-capped');
    const custody = (await node.ask<CustodyRecord[]>(['custody', 'show'])).map(({ event }) => event);
    expect(custody.slice(-3)).toEqual(['zeroize-finished', 'zeroize-interrupted', 'zeroize-certified']);
    const certificate = readFileSync(`${node.stateDirectory}/zeroize-certificate.json`, 'utf8');
    expect(JSON.parse(certificate)).toMatchObject({
      asserted: { cause: 'operator', interrupted: true },
      proven: { pcrs: { 14: expect.stringMatching(/[1-9a-f]/) } },
    });
  });
});
