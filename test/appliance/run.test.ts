import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import type { Status } from '../../src/appliance/status.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import type { VerifyReport } from '../../src/forensics/claims.ts';
import { listInterfaces } from '../../src/host/netlink.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { esoteric, esotericJson, type LabNode } from '../lab/node.ts';
import {
  childrenOf,
  contentOf,
  endlessStream,
  freePort,
  labNode,
  profile,
  refusalOf,
  Scratch,
  until,
} from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const provision = ['provision', '--profile', profile('leaf')];
const custodyOf = (node: LabNode): Promise<CustodyRecord[]> => node.ask(['custody', 'show']);
const eventsOf = async (node: LabNode): Promise<string[]> =>
  (await custodyOf(node)).map(({ event }) => event);
/** The courier of a killed node makes a last attempt before it ends. */
const courierGone = (node: LabNode): Promise<true> =>
  until('the courier has ended', () => {
    const lock = `${node.stateDirectory}/courier/lock`;
    return spawnSync('flock', ['--nonblock', lock, 'true']).status === 0 ? true : undefined;
  });
const spooled = (node: LabNode): string =>
  readdirSync(`${node.stateDirectory}/spool`)
    .map((name) => readFileSync(`${node.stateDirectory}/spool/${name}`, 'utf8'))
    .join('\n');

describe('run', () => {
  it('refuses where nothing has been provisioned, and says what to do', async () => {
    const refusal = await refusalOf([
      'run',
      '--state-dir',
      scratch.at('nothing'),
      '--tpm',
      'swtpm:path=/nobody',
    ]);
    expect(refusal).toMatchObject({ status: 1, code: 'unprovisioned' });
    expect(refusal.remedy).toContain('esoteric-appliance provision');
    expect(existsSync(scratch.at('nothing'))).toBe(false);
  });

  it('refuses a second node on the same state, and the first goes on unharmed', async () => {
    await using node = await labNode(scratch, 'first');
    await node.run();
    const { pid } = await node.status();
    const refusal = await refusalOf(['run', ...node.arguments]);
    expect(refusal).toMatchObject({ status: 1, code: 'state-in-use', kept: 'Nothing was touched.' });
    expect(refusal.message).toContain(`${pid}`);
    expect(await refusalOf(['provision', ...node.arguments])).toMatchObject({ code: 'state-in-use' });
    const after = await node.status();
    expect(after).toMatchObject({ state: 'running', pid, interlock: { phase: 'armed' } });
    const random = await esoteric(['stream', '--bytes', '64', ...node.arguments]);
    expect(random.stdout).toHaveLength(64);
    // An output that the node ends is never taken for a whole one.
    const { ended } = await endlessStream(node, 1);
    expect(await node.stop()).toBe(0);
    expect(await ended).toMatchObject({ status: 1, stderr: expect.stringContaining('ended its output') });
    expect(await eventsOf(node)).toEqual(['provisioned', 'started', 'stopped']);
  });

  it('gives back a port that is taken as a failure, and the next start is a clean one', async () => {
    const port = await freePort();
    const configuration = `[entropy]\nhttp = ["127.0.0.1:${port}"]\n[interlock]\non_unclean_start = "lock"\n`;
    await using node = await labNode(scratch, 'port', { configuration });
    await using other = await labNode(scratch, 'holder', { configuration });
    await other.run();
    expect(await refusalOf(['run', ...node.arguments])).toMatchObject({ status: 1, code: 'listen-failed' });
    await other.stop();
    await node.run();
    expect((await node.status()).state).toBe('running');
  });

  it('tells at its start, and not when evidence is needed, that no bundle could be made', async () => {
    await using node = await labNode(scratch, 'unready', {
      configuration: `[forensics]\ncase_key = "${scratch.at('lost.key')}"\n`,
    });
    await node.ask(provision);
    await node.run();
    expect(node.log).toMatch(/cannot make forensic bundles as it is set up/);
    expect((await node.status()).state).toBe('running');
  });

  it('runs with --demo on a machine without TPM, Sigstore, journal or configuration, and says so', async () => {
    const state = scratch.at('demo-state');
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', 'src/cli/main.ts', 'run', '--demo', '--state-dir', state],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let said = '';
    let answersWhenItSaysSo: boolean | undefined;
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString('utf8');
      if (/ is running\./.test(said)) answersWhenItSaysSo ??= existsSync(stateLayout(state).control);
    });
    try {
      await until('it runs', () => (/ is running\./.test(said) ? true : undefined));
      expect(answersWhenItSaysSo).toBe(true);
      expect(said).toMatch(/BYPASS {2}TPM[\s\S]*BYPASS {2}Sigstore/);
      const there = ['--state-dir', state, '--no-tpm', '--no-sigstore'];
      const status = await esotericJson<Status>(['status', ...there]);
      expect(status).toMatchObject({
        state: 'running',
        assurance: { tpm: 'bypassed', sigstore: 'bypassed' },
        interlock: { watched: [] },
      });
      expect((await esoteric(['stream', '--bytes', '1K', ...there])).stdout).toHaveLength(1024);
    } finally {
      child.kill('SIGTERM');
    }
    expect(await once(child, 'exit')).toEqual([0, null]);
  });
});

describe('run, after kill -9', () => {
  const linkName = `ea-t2-${process.pid}`.slice(0, 15);
  let node: LabNode;
  beforeAll(async () => {
    node = await labNode(scratch, 'killed', {
      configuration: `
[[links]]
name = "${linkName}"
address = "10.213.77.1/30"
listen_port = 0
`,
    });
    await node.ask(provision);
  });
  afterAll(() => node[Symbol.asyncDispose]());
  afterEach(() => node.stop());

  it('leaves no link, no helper and no courier behind', async () => {
    await node.run();
    expect((await node.status()).links).toMatchObject([{ name: linkName, up: true }]);
    const helpers = childrenOf(node.pid).map(({ pid }) => pid);
    expect(helpers.length).toBeGreaterThan(0);
    node.kill();
    await until('the link is gone', () =>
      listInterfaces().some(({ name }) => name === linkName) ? undefined : true,
    );
    await until('its processes have ended', () =>
      helpers.some((pid) => existsSync(`/proc/${pid}`)) ? undefined : true,
    );
  });

  it('tells of the unclean end in the custody log and by an alert, and runs on', async () => {
    await node.run();
    const custody = await custodyOf(node);
    expect(custody.at(-1)).toMatchObject({ event: 'started', detail: { unclean: true } });
    expect(node.log).toMatch(/warning +killed-\d+: the last end was unclean/);
    expect((await node.status()).links).toMatchObject([{ name: linkName, up: true }]);
    await node.stop();
    await node.run();
    expect((await custodyOf(node)).at(-1)).toMatchObject({ event: 'started', detail: { unclean: false } });
  });

  it('locks where the policy says so: zeroized, certified, announced, and the start refused', async () => {
    await node.run();
    node.kill();
    await node.stop();
    await courierGone(node); // It outlives the node for a moment, and would take the alert out of the spool.
    const text = readFileSync(node.config, 'utf8');
    writeFileSync(node.config, `${text}\n[interlock]\non_unclean_start = "lock"\n`);
    expect(await refusalOf(['run', ...node.arguments])).toMatchObject({ status: 4, code: 'zeroized' });
    expect(await node.status()).toMatchObject({ state: 'zeroized', zeroize: { cause: 'unclean-start' } });
    const events = (await eventsOf(node)).slice(-5);
    expect(events).toEqual(['zeroized', 'zeroize-certified', 'bundle-begun', 'bundle-made', 'stopped']);
    // In the spool, unless a courier has taken it up already.
    const announced = [...contentOf(node.stateDirectory)].filter(
      ([path, bytes]) => /\/(spool|courier)\//.test(path) && bytes.includes('zeroized: unclean-start'),
    );
    expect(announced).not.toEqual([]);
    expect(listInterfaces().some(({ name }) => name === linkName)).toBe(false);
  });
});

describe('run, after a zeroize that was killed before it could tell', () => {
  it('tells in the custody log and by an alert what the state says, once, and stays shut', async () => {
    await using node = await labNode(scratch, 'mute');
    await node.ask(provision);
    // What kill -9 leaves between the disk stage and the first word of the main thread.
    const zeroized = { state: 'zeroized', cause: 'link-flap', level: 'lock' };
    writeFileSync(`${node.stateDirectory}/state.json`, JSON.stringify(zeroized));
    writeFileSync(`${node.stateDirectory}/running.json`, '{}');
    for (let n = 0; n < 2; n += 1) {
      expect(await refusalOf(['run', ...node.arguments])).toMatchObject({ status: 4, code: 'zeroized' });
    }
    expect(await eventsOf(node)).toEqual(['provisioned', 'zeroize-interrupted', 'zeroize-certified']);
    expect(spooled(node).split('\n')).toEqual([expect.stringMatching(/mute-\d+ zeroized: link-flap/)]);
    expect((await node.status()).zeroize).toMatchObject({ cause: 'link-flap' });
  });
});

describe('run, with a TPM', () => {
  let node: LabNode;
  beforeAll(async () => {
    node = await labNode(scratch, 'sealed', { tpm: true, sigstore: true });
    await node.ask(provision);
  });
  afterAll(() => node[Symbol.asyncDispose]());

  it('refuses a TPM that it was not provisioned with, empty or of another node', async () => {
    await using other = await labNode(scratch, 'other', { tpm: true });
    const withOther = ['run', '--config', node.config, '--tpm', other.tpm?.tcti ?? ''];
    const empty = await refusalOf(withOther);
    expect(empty).toMatchObject({ status: 1, code: 'tpm-swapped', kept: 'Nothing was unsealed.' });
    await other.ask(provision);
    expect(await refusalOf(withOther)).toMatchObject({ status: 1, code: 'tpm-swapped' });
  });

  it('refuses --no-tpm on a node whose keys are sealed', async () => {
    const refusal = await refusalOf(['run', '--config', node.config, '--no-tpm']);
    expect(refusal).toMatchObject({ status: 1, code: 'provisioned-otherwise' });
  });

  it('says that Sigstore is bypassed where only this run bypasses it', async () => {
    expect((await node.status()).assurance).toMatchObject({ tpm: 'simulator', sigstore: 'pending' });
    const withFlag = [...node.arguments, '--no-sigstore'];
    const status = await esotericJson<Status>(['status', ...withFlag]);
    expect(status.assurance).toMatchObject({ tpm: 'simulator', sigstore: 'bypassed' });
    const bundle = ['collect-forensics', '--output', scratch.at('bypassed'), ...withFlag];
    const { archive } = await esotericJson<BundleMade>(bundle);
    const report = await esotericJson<VerifyReport>(['verify', archive], { accept: [3] });
    expect(report.bundle?.assurance).toEqual(status.assurance);
    expect(report.reasons.join()).toMatch(/Sigstore bypassed/);
  });

  it('is refused when a PCR is not as it was approved, and runs again after a reboot', async () => {
    {
      await using tpm = await openTpm({ tcti: node.tpm?.tcti ?? '' });
      await tpm.pcrExtend(7, { sha256: new Uint8Array(32).fill(1) });
    }
    const refusal = await refusalOf(['run', ...node.arguments]);
    expect(refusal).toMatchObject({ status: 1, code: 'approval-pcrs' });
    expect(refusal.message).toMatch(/PCR 7 is not as it was approved/);
    expect(refusal.remedy).toMatch(/esoteric-appliance approve/);
    expect((await node.status()).state).toBe('sealed');
    await node.reboot();
    await node.run();
    expect((await custodyOf(node)).at(-1)).toMatchObject({ event: 'started', detail: { unclean: false } });
    await node.stop();
  });

  it('takes what a killed run left loaded in the TPM for its own, however often it is killed', async () => {
    for (let n = 0; n < 4; n += 1) {
      await node.run();
      node.kill();
      await node.stop();
    }
    await node.run();
    expect((await node.status()).state).toBe('running');
    await node.stop();
  });
});
