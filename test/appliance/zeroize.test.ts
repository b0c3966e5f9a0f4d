import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OutboxRow } from '../../src/alerts/outbox.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import type { VerifyReport } from '../../src/forensics/claims.ts';
import { SecretArena } from '../../src/host/arena.ts';
import type { ZeroizeOutcome } from '../../src/interlock/outcome.ts';
import { esoteric, type LabNode } from '../lab/node.ts';
import { unsealByForce } from '../lab/unseal.ts';
import { startWebhook, type Webhook } from '../lab/webhook.ts';
import { endlessStream, freePort, labNode, profile, refusalOf, Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const provision = ['provision', '--profile', profile('leaf')];
const zeroize = (node: LabNode, ...more: string[]): Promise<ZeroizeOutcome> =>
  node.ask<ZeroizeOutcome>(['zeroize', '--reason', 'a test', ...more]);
const eventsOf = async (node: LabNode): Promise<string[]> =>
  (await node.ask<CustodyRecord[]>(['custody', 'show'])).map(({ event }) => event);
const bundlesOf = (node: LabNode): string[] =>
  readdirSync(`${node.stateDirectory}/bundles`)
    .filter((name) => name.endsWith('.tar.gz'))
    .map((name) => `${node.stateDirectory}/bundles/${name}`);
const memberOf = (archive: string, path: string): string =>
  execFileSync('tar', ['-xzOf', archive, path], { encoding: 'utf8' });
const verified = async (node: LabNode, archive: string, ...more: string[]) => {
  const enrolment = `${node.stateDirectory}/enrolment.json`;
  const { status, stdout } = await esoteric(['verify', archive, '--enrolment', enrolment, '--json', ...more]);
  const report = JSON.parse(stdout.toString()) as VerifyReport;
  return { status, report, failed: report.claims.filter(({ result }) => result === 'failed') };
};

describe('a zeroized node', () => {
  let node: LabNode;
  let webhook: Webhook;
  let port: number;
  let firstArchive: string;
  beforeAll(async () => {
    webhook = await startWebhook();
    port = await freePort();
    node = await labNode(scratch, 'doors', {
      tpm: true,
      sigstore: true,
      configuration: `
[entropy]
http = ["127.0.0.1:${port}"]
[[alerts.channels]]
url = "${webhook.url('json')}"
`,
    });
    await node.ask(provision);
    await node.run();
  });
  afterAll(async () => {
    await node[Symbol.asyncDispose]();
    await webhook.stop();
  });

  it('has run all stages, certified them, told of them and collected a bundle when the command returns', async () => {
    expect((await fetch(`http://127.0.0.1:${port}/random?bytes=32`)).status).toBe(200);
    const { ended } = await endlessStream(node, 4096);
    const outcome = await zeroize(node);
    // Cut off in the middle: no words pass for random bytes.
    const cut = await ended;
    expect(cut.status).toBe(4);
    expect(cut.stdout.length).toBe(4096);
    expect(cut.stdout.toString('latin1')).not.toContain('zeroized');
    expect(outcome).toMatchObject({
      cause: 'operator',
      interface: null,
      level: 'lock',
      stages: { kernel: { failures: 0 }, tpm: { result: 'done' }, disk: { result: 'done' } },
    });
    expect(await eventsOf(node)).toEqual([
      'state-approved',
      'provisioned',
      'started',
      'zeroize-requested',
      'zeroized',
      'zeroize-certified',
      'bundle-begun',
      'bundle-made',
    ]);
    await webhook.waitFor(1, 15_000);
    expect(webhook.received[0]?.text).toMatch(/doors-\d+ zeroized: operator/);
    firstArchive = bundlesOf(node)[0] ?? '';
    expect((await node.status()).zeroize).toMatchObject({ cause: 'operator', bundle: firstArchive });
    const shown = (await esoteric(['status', ...node.arguments])).stdout.toString();
    expect(shown).toMatch(
      /^zeroized +operator, level lock, at \S+Z\n +memory \d+ us; links \d+ us, 0 failed; TPM /m,
    );
    expect(shown).toMatch(new RegExp(`^bundle +${firstArchive}$`, 'm'));
  });

  it('gives no output: stream ends with 4, HTTP answers 503', async () => {
    const streamed = await esoteric(['stream', '--bytes', '32', ...node.arguments]);
    expect(streamed).toMatchObject({ status: 4, stdout: Buffer.alloc(0) });
    const answer = await fetch(`http://127.0.0.1:${port}/random?bytes=32`);
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ code: 'zeroized' });
    expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(503);
  });

  const standing = async (): Promise<void> => {
    expect((await node.status()).state).toBe('zeroized');
    expect(await node.ask(['custody', 'check'])).toMatchObject({ ok: true });
    const checked = (await esoteric(['custody', 'check', ...node.arguments])).stdout.toString();
    expect(checked).toMatch(/^whole: .*\nThe TPM was told of it up to record \d+\.\n.*`--against`/);
    expect((await node.ask<OutboxRow[]>(['alert', 'status'])).map(({ kind }) => kind)).toContain('alert');
    expect(await node.ask(['doctor'])).toContainEqual(
      expect.objectContaining({ check: 'TPM', result: 'ok' }),
    );
    const made = await node.ask<BundleMade>(['collect-forensics', '--reason', 'afterwards']);
    expect(made.problems).toEqual([]);
    const { report, failed } = await verified(node, made.archive, '--allow-bypassed');
    expect(failed).toEqual([]);
    expect(report.claims).toContainEqual(expect.objectContaining({ claim: 'signature', result: 'proven' }));
  };

  it('still answers status, doctor, custody, alert, collect and verify while it stands by', async () => {
    await standing();
    await node.ask(['alert', 'test']);
    await webhook.waitFor(2);
  });

  it('does not zeroize twice, and takes nothing back for a lower level', async () => {
    const again = await zeroize(node, '--level', 'purge');
    expect(again).toMatchObject({ cause: 'operator', level: 'lock' });
    expect((await eventsOf(node)).filter((event) => event === 'zeroized')).toHaveLength(1);
  });

  it('refuses run and provision with status 4 once it has stopped, and still gives evidence', async () => {
    expect(await node.stop()).toBe(0);
    for (const command of [['run'], ['provision'], ['provision', '--dry-run']]) {
      const refusal = await refusalOf([...command, ...node.arguments]);
      expect(refusal).toMatchObject({ status: 4, code: 'zeroized' });
      expect(refusal.remedy).toContain('--re-arm');
    }
    expect((await esoteric(['stream', '--bytes', '32', ...node.arguments])).status).toBe(4);
    await standing();
  });

  it('shows the cap in the certificate and in the quote of its bundle', async () => {
    const { report } = await verified(node, firstArchive, '--allow-bypassed');
    const policy = report.claims.find(({ claim }) => claim === 'PCR policy');
    expect(policy?.result).not.toBe('failed');
    expect(report.bundle?.reason).toBe('zeroize: operator');
    // A simulator proves nothing, so that is why, and nothing else.
    expect(report.claims.find(({ claim }) => claim === 'zeroize')).toMatchObject({
      result: 'not-proven',
      detail: expect.stringMatching(
        /^The TPM signed the zeroize certificate when PCR 14 was capped and the armed counter stood at \d+\..*simulator/,
      ),
    });
  });

  it('cannot be re-armed while the TPM holds the cap, and can after a reboot', async () => {
    const before = readFileSync(`${node.stateDirectory}/state.json`);
    const refusal = await refusalOf(['provision', '--re-arm', ...node.arguments]);
    expect(refusal).toMatchObject({ status: 1, code: 'tpm-still-capped' });
    expect(refusal.remedy).toMatch(/^Reboot/);
    expect(readFileSync(`${node.stateDirectory}/state.json`)).toEqual(before);
    await node.reboot();
    const rearmed = await node.ask<ProvisionResult>(['provision', '--re-arm']);
    expect(rearmed.changed).toEqual(['approval']);
    expect((await eventsOf(node)).at(-1)).toBe('re-armed');
    await node.run();
    expect((await node.status()).state).toBe('running');
    expect((await esoteric(['stream', '--bytes', '32', ...node.arguments])).stdout).toHaveLength(32);
    await node.stop();
  });
});

describe('the levels of a zeroize', () => {
  let node: LabNode;
  beforeAll(async () => {
    node = await labNode(scratch, 'levels', { tpm: true });
    await node.ask(provision);
  });
  afterAll(() => node[Symbol.asyncDispose]());

  it('purge leaves TPM and keys alone: a restart brings the node back', async () => {
    await node.run();
    expect((await zeroize(node, '--level', 'purge')).stages.tpm.result).toBe('not part of this level');
    await node.stop();
    expect((await node.status()).zeroize).toMatchObject({ cause: 'operator', level: 'purge' });
    const shown = (await esoteric(['status', ...node.arguments])).stdout.toString();
    expect(shown).toContain('then start the node anew');
    await node.run();
    expect((await node.status()).state).toBe('running');
    expect(await eventsOf(node)).toContain('restarted-after-purge');
  });

  it('lock that ends by kill -9 needs the reboot, and after that is no unclean end', async () => {
    await zeroize(node);
    node.kill();
    await node.stop();
    expect(await refusalOf(['run', ...node.arguments])).toMatchObject({ status: 4, code: 'zeroized' });
    await node.reboot();
    await node.ask(['provision', '--re-arm']);
    await node.run();
    const custody = await node.ask<CustodyRecord[]>(['custody', 'show']);
    expect(custody.at(-1)).toMatchObject({ event: 'started', detail: { unclean: false } });
  });

  it('destroy takes the sealed keys, also of a locked node: what comes after is a node with other keys', async () => {
    const keysOf = async (): Promise<ProvisionResult['keys']> =>
      (await node.ask<ProvisionResult>([...provision, '--re-arm'])).keys;
    const sealed = `${node.stateDirectory}/keys/wireguard.json`;
    const before = JSON.parse(readFileSync(sealed, 'utf8')) as { publicKey: string };
    expect(await zeroize(node)).toMatchObject({ level: 'lock' });
    expect(existsSync(sealed)).toBe(true);
    const outcome = await zeroize(node, '--level', 'destroy');
    expect(outcome).toMatchObject({ level: 'destroy', stages: { disk: { result: 'done' } } });
    expect((await eventsOf(node)).slice(-4)).toEqual([
      'zeroize-deepened',
      'zeroize-certified',
      'bundle-begun',
      'bundle-made',
    ]);
    const told = [...node.log.matchAll(/levels-\d+ zeroized(?: further)?: .*/g)].map(String);
    expect(told.at(-1)).toMatch(/zeroized further: taken from lock to destroy \[levels-\d+-zeroize-\d+\]$/);
    const made = await node.ask<BundleMade>(['collect-forensics']);
    const { asserted } = JSON.parse(memberOf(made.archive, 'evidence/zeroize-certificate.json'));
    expect(asserted).toMatchObject({ level: 'destroy', cause: 'operator' });
    expect(asserted.parameters).toContainEqual({
      name: 'wireguard',
      kind: 'wireguard key',
      fate: 'destroyed in memory',
      atRest: 'overwritten and removed; its share is gone from the TPM',
    });
    // That of the lock, and of each zeroize of this node before it.
    const earlier = memberOf(made.archive, 'evidence/zeroize-certificates.jsonl').trim().split('\n');
    expect(earlier.length).toBeGreaterThan(1);
    expect(JSON.parse(earlier.at(-1) ?? '')).toMatchObject({ asserted: { level: 'lock' } });
    const { report, failed } = await verified(node, made.archive, '--allow-bypassed');
    expect(failed).toEqual([]);
    expect(report.claims.find(({ claim }) => claim === 'zeroize')?.detail).toMatch(
      /^The TPM signed the zeroize/,
    );
    expect(existsSync(sealed)).toBe(false);
    await node.stop();
    await node.reboot();
    const [wireguard] = await keysOf();
    expect(wireguard?.publicKey).toMatch(/^[A-Za-z0-9+/]{43}=$/);
    expect(wireguard?.publicKey).not.toBe(before.publicKey);
  });
});

describe('a zeroize whose TPM has died', () => {
  it('completes: memory, links and disk; the failed stage is told, and the bundle is kept unsigned', async () => {
    await using node = await labNode(scratch, 'tpm-dead', { tpm: true, sigstore: true });
    await node.ask(provision);
    await node.run();
    node.tpm?.kill();
    await sleep(100);
    const outcome = await zeroize(node);
    expect(outcome.stages).toMatchObject({ kernel: { failures: 0 }, disk: { result: 'done' } });
    expect(outcome.stages.tpm.result).toMatch(/^failed/);
    expect(await eventsOf(node)).toEqual(
      expect.arrayContaining([
        'zeroized',
        'zeroize-certified',
        'sequence-uncounted',
        'bundle-unsigned',
        'bundle-made',
      ]),
    );
    expect(await node.status()).toMatchObject({ state: 'zeroized', entropy: { state: 'zeroized' } });
    expect((await esoteric(['stream', '--bytes', '32', ...node.arguments])).status).toBe(4);
    const [archive = ''] = bundlesOf(node);
    const strict = await verified(node, archive);
    expect(strict).toMatchObject({ status: 3, failed: [], report: { verdict: 'incomplete' } });
    // Nobody signed it, so nothing that hangs on the statement is proven, and nothing is held against it.
    for (const claim of ['signature', 'manifest', 'custody chain']) {
      expect(strict.report.claims).toContainEqual(expect.objectContaining({ claim, result: 'not-proven' }));
    }
    await node.stop();
    const starting = await esoteric(['run', ...node.arguments]);
    expect(starting.status).toBe(4);
    expect(starting.stderr).toMatch(/had been interrupted; still left over: TPM failed \(/);
    expect(starting.stderr).toMatch(/^error {2}The TPM could not be locked as the zeroize asks for/m);
    expect(await refusalOf(['provision', ...node.arguments])).toMatchObject({ status: 4 });
    expect((await refusalOf(['provision', '--re-arm', ...node.arguments])).code).toBe('zeroize-unfinished');
    // Evidence is still made without it, and signed again once it is back.
    expect((await node.ask<BundleMade>(['collect-forensics'])).sequence).toBe(2);
    await node.reboot();
    const made = await node.ask<BundleMade>(['collect-forensics']);
    const { report } = await verified(node, made.archive, '--allow-bypassed');
    expect(report.claims).toContainEqual(expect.objectContaining({ claim: 'signature', result: 'proven' }));
    expect(made.sequence).toBe(3);
    // The counter has missed two bundles meanwhile, and is brought after.
    expect(report.claims).toContainEqual(
      expect.objectContaining({
        claim: 'sequence',
        result: 'proven',
        detail: expect.stringContaining('stood at it'),
      }),
    );
  });

  it.each(['lock', 'destroy'])(
    'is finished before anything else at level %s: no approval that it voids opens a key',
    async (level) => {
      await using node = await labNode(scratch, `tpm-late-${level}`, { tpm: true, sigstore: true });
      const { keys } = await node.ask<ProvisionResult>(provision);
      await node.run();
      const aside = scratch.at(`aside-${level}`);
      cpSync(`${node.stateDirectory}/keys`, aside, { recursive: true });
      node.tpm?.kill();
      await sleep(100);
      expect((await zeroize(node, '--level', level)).stages.tpm.result).toMatch(/^failed/);
      await node.stop();
      // As after a power cut, which may lose the mark of the stages; and somebody puts the blobs back.
      rmSync(`${node.stateDirectory}/zeroizing`, { force: true });
      cpSync(aside, `${node.stateDirectory}/keys`, { recursive: true });
      await node.reboot();
      expect(await refusalOf(['provision', '--re-arm', ...node.arguments])).toMatchObject({
        code: 'tpm-still-capped', // By the stage that was left over, just now.
      });
      expect(await eventsOf(node)).toContain('zeroize-finished');
      await node.reboot();
      using arena = SecretArena.allocate({ byteLength: 8192, allowSwappable: true });
      cpSync(aside, `${node.stateDirectory}/keys`, { recursive: true });
      await expect(unsealByForce(node, arena, 'wireguard')).rejects.toMatchObject({
        code:
          level === 'lock'
            ? 'tpm-policy'
            : expect.stringMatching(/^(tpm-policy|share-destroyed|tpm-no-object)$/),
      });
      if (level === 'destroy') rmSync(`${node.stateDirectory}/keys`, { recursive: true });
      const rearmed = await node.ask<ProvisionResult>(['provision', '--re-arm']);
      expect(rearmed.changed).toContain('approval');
      const publicKeyOf = (all: ProvisionResult['keys']) =>
        all.find(({ name }) => name === 'wireguard')?.publicKey;
      if (level === 'lock') expect(publicKeyOf(rearmed.keys)).toBe(publicKeyOf(keys));
      else expect(publicKeyOf(rearmed.keys)).not.toBe(publicKeyOf(keys));
    },
  );

  it('signs evidence again as soon as the TPM is back, without a restart of the node', async () => {
    await using node = await labNode(scratch, 'tpm-back', { tpm: true, sigstore: true });
    await node.ask(provision);
    await node.run();
    node.tpm?.kill();
    await sleep(100);
    const without = await node.ask<BundleMade>(['collect-forensics']);
    expect((await eventsOf(node)).at(-1)).toBe('bundle-made');
    expect((await verified(node, without.archive)).report.verdict).toBe('incomplete');
    await node.reboot();
    const withTpm = await node.ask<BundleMade>(['collect-forensics']);
    const { report } = await verified(node, withTpm.archive, '--allow-bypassed');
    expect(report.claims).toContainEqual(expect.objectContaining({ claim: 'signature', result: 'proven' }));
  });
});
