import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { Announcer } from '../../src/appliance/announce.ts';
import { configSchema } from '../../src/appliance/config-schema.ts';
import { askNode, isRunning } from '../../src/appliance/control.ts';
import type { BundleMade, BundleRequest } from '../../src/appliance/evidence.ts';
import { NodeGuard } from '../../src/appliance/guard.ts';
import type { NodeRecord } from '../../src/appliance/node-record.ts';
import { policyPath } from '../../src/appliance/policies.ts';
import { signCommand } from '../../src/appliance/sign-command.ts';
import { makeStateDirectories, stateLayout } from '../../src/appliance/state-layout.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import { requireChild } from '../../src/host/child.ts';
import { loadInterlockPolicy } from '../../src/interlock/policy.ts';
import { SettableClock } from '../lab/clock.ts';
import type { LabNode } from '../lab/node.ts';
import { labNode, profile, refusalOf, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const control = (node: LabNode): string => stateLayout(node.stateDirectory).control;
const custodyOf = (node: LabNode) => node.ask<CustodyRecord[]>(['custody', 'show']);
const started = async (node: LabNode): Promise<LabNode> => {
  await node.ask(['provision', '--profile', profile('leaf')]);
  await node.run();
  await until('it to answer', async () => (await isRunning(control(node))) || undefined);
  return node;
};
/** The cause of the zeroize, once it has been told. */
const struck = (node: LabNode): Promise<string> =>
  until('a zeroize', async () => (await node.status()).zeroize?.cause, 30_000);

describe('a command from afar', () => {
  it('zeroizes once, from the directory or through the control socket, and its number is used up', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const drop = scratch.at('commands');
    mkdirSync(drop);
    writeFileSync(scratch.at('command.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
    writeFileSync(scratch.at('command.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    await using node = await labNode(scratch, 'afar', {
      configuration: `
[interlock]
look_milliseconds = 50
command_key = "${scratch.at('command.pub')}"
command_directory = "${drop}"
`,
    });
    const order = (name: string, number: number): string =>
      JSON.stringify(
        signCommand({ key: scratch.at('command.key'), node: name, number, level: 'purge', reason: 'stolen' }),
      );
    const dropped = async (text: string): Promise<void> => {
      writeFileSync(scratch.at('half'), text);
      renameSync(scratch.at('half'), `${drop}/order.json`);
      await until('it to be taken', () => (existsSync(`${drop}/order.json`) ? undefined : true));
    };
    await started(node);
    expect(await refusalOf(['remote', 'send', scratch.at('nowhere'), ...node.arguments])).toMatchObject({
      status: 2,
      code: 'command-unreadable',
    });
    await dropped(order('somebody-else', 9));
    expect((await node.status()).state).toBe('running');
    await dropped(order(node.name, 9));
    expect(await struck(node)).toBe('remote-command');
    const custody = await custodyOf(node);
    expect(custody.find(({ event }) => event === 'command-refused')?.detail.why).toBe('not for this node');
    expect(custody.find(({ event }) => event === 'command-accepted')?.detail).toMatchObject({ number: 9 });
    expect((await node.status()).zeroize).toMatchObject({ level: 'purge' });

    await node.stop();
    await node.run(); // A restart ends a purge, and makes no number good again.
    writeFileSync(scratch.at('again.json'), order(node.name, 9));
    const replayed = await refusalOf(['remote', 'send', scratch.at('again.json'), ...node.arguments]);
    expect(replayed).toMatchObject({ status: 1, code: 'command-refused' });
    expect(replayed.message).toContain('replayed');
    expect(replayed.remedy).toContain('a number above 9');
    // Older than what was obeyed, though never used itself.
    writeFileSync(scratch.at('older.json'), order(node.name, 8));
    const older = await refusalOf(['remote', 'send', scratch.at('older.json'), ...node.arguments]);
    expect(older).toMatchObject({ status: 1, remedy: expect.stringContaining('a number above 9') });
    writeFileSync(scratch.at('astray.json'), order('somebody-else', 10));
    const astray = await refusalOf(['remote', 'send', scratch.at('astray.json'), ...node.arguments]);
    expect(astray.remedy).toContain(`--node ${node.name}`);
    expect((await node.status()).state).toBe('running');
    writeFileSync(scratch.at('next.json'), order(node.name, 10));
    expect(await node.ask(['remote', 'send', scratch.at('next.json')])).toMatchObject({ number: 10 });
    expect(await struck(node)).toBe('remote-command');
  });
});

describe('a prediction of a plug-in', () => {
  it('counts from the confidence on that the policy asks for', async () => {
    await using node = await started(await labNode(scratch, 'foreseen'));
    const predict = (confidence: number) =>
      askNode(control(node), 'predict', { source: 'a test', confidence });
    expect(await predict(0.5)).toEqual({ verdict: 'nothing' });
    expect((await node.status()).state).toBe('running');
    await expect(predict(1.5)).rejects.toMatchObject({ code: 'usage' });
    expect(await predict(0.95)).toEqual({ verdict: 'strike' });
    expect(await struck(node)).toBe('prediction');
    expect((await node.status()).zeroize).toMatchObject({ level: 'purge' });
    expect(
      (await custodyOf(node)).filter(({ event }) => event === 'predicted').map(({ detail }) => detail),
    ).toEqual([{ source: 'a test', confidence: 0.95 }]);
  });
});

describe('a cause that is only told', () => {
  it('gets its bundle, if the policy says so, with the severity of the policy', () => {
    const config = configSchema.parse({ node: { state_dir: scratch.at('told') } });
    const layout = stateLayout(config.node.state_dir);
    makeStateDirectories(layout, undefined);
    const policy = loadInterlockPolicy(policyPath('interlock.toml'));
    const prediction = { ...policy.cause.prediction, level: 'none' as const, severity: 'alert' as const };
    using custody = CustodyLog.open(layout.custody);
    using announcer = new Announcer(config, layout, () => {});
    const asked: BundleRequest[] = [];
    using guard = new NodeGuard({
      ...{ config, layout, custody, announcer, tpmAtStart: null },
      record: { node: 'alpha', role: 'leaf' } as NodeRecord,
      policy: { ...policy, cause: { ...policy.cause, prediction } },
      entropy: () => undefined,
      linkChanges: async () => 0,
      takeAlong: () => {},
      strike: (cause) => expect.unreachable(cause),
      collect: async (request) => {
        asked.push(request);
        return {} as BundleMade;
      },
    });
    expect(guard.predict('a test', 0.95)).toEqual({ verdict: 'tell' });
    expect(asked).toEqual([{ reason: 'observed: prediction', trigger: 'observed', severity: 'alert' }]);
  });
});

describe('a clock that is set back under the daemon', () => {
  it('is told once, by how much, and wipes nothing unless the policy says so', async () => {
    const clock = await SettableClock.create(scratch.path);
    await using node = await started(
      await labNode(scratch, 'backwards', {
        environment: clock.environment,
        configuration: '[interlock]\nlook_milliseconds = 50\n',
      }),
    );
    await sleep(500); // What the clock was is known by then.
    clock.set(-3600);
    await until('the event', () => node.log.includes('clock-set-back was observed') || undefined);
    const told = (await custodyOf(node)).filter(({ event }) => event === 'cause-told');
    expect(told.map(({ detail }) => detail.cause)).toEqual(['clock-set-back']);
    expect(Number(told[0]?.detail.value)).toBeCloseTo(3600, 0);
    expect(node.log).toContain('clock-set-back was observed: the clock was set back by 3600 s.');
    expect((await node.status()).state).toBe('running');
  });
});

describe('a debugger on the daemon', () => {
  it('is noticed, and costs the node its secrets', async () => {
    await using node = await started(
      await labNode(scratch, 'traced', { configuration: '[interlock]\nlook_milliseconds = 50\n' }),
    );
    const tracer = spawn('strace', ['-e', 'trace=none', '-p', `${node.pid}`], { stdio: 'ignore' });
    const ended = once(tracer, 'exit');
    expect(await struck(node)).toBe('debugger-attached');
    tracer.kill('SIGKILL');
    await ended;
  });
});

describe('a link that is changed from outside', () => {
  it('is noticed: a peer that the node did not set', async () => {
    const name = `ea-d-${process.pid}`.slice(0, 15);
    await using node = await started(
      await labNode(scratch, 'drift', {
        configuration: `
[interlock]
look_milliseconds = 50
[[links]]
name = "${name}"
address = "10.213.79.1/30"
listen_port = 0
`,
      }),
    );
    const stranger = (await requireChild('wg', ['genkey'])).stdout;
    const publicKey = (await requireChild('wg', ['pubkey'], { input: stranger })).stdout.toString().trim();
    await requireChild('wg', ['set', name, 'peer', publicKey, 'allowed-ips', '10.213.79.2/32']);
    expect(await struck(node)).toBe('wireguard-changed');
  });
});

describe('a TPM that is reset while the node runs', () => {
  it('is noticed, also before anybody has looked at it', async () => {
    await using node = await started(
      await labNode(scratch, 'reset', { tpm: true, configuration: '[interlock]\nlook_milliseconds = 300\n' }),
    );
    await node.reboot(); // The first look comes after three seconds.
    expect(await struck(node)).toBe('tpm-reset');
  });
});

describe('a tamper contact of the node', () => {
  it('zeroizes when a byte is written into its FIFO', async () => {
    await requireChild('mkfifo', ['-m', '600', scratch.at('lid')]);
    await using node = await started(
      await labNode(scratch, 'housing', {
        configuration: `[interlock]\ntamper = ["fifo:${scratch.at('lid')}"]\n`,
      }),
    );
    writeFileSync(scratch.at('lid'), 'x');
    expect(await struck(node)).toBe('tamper');
  });
});
