import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import { runChild } from '../../src/host/child.ts';
import { readIfPresent } from '../../src/host/durable.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { esoteric, type LabNode } from '../lab/node.ts';
import { contentOf, labNode, profile, refusalOf, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const provision = (...more: string[]): string[] => ['provision', '--profile', profile('relay'), ...more];

/** What a TPM keeps over power loss, and what is loaded in it. */
async function heldBy(node: LabNode): Promise<{ handles: number[]; indices: number[] }> {
  await using tpm = await openTpm({ tcti: node.tpm?.tcti ?? '' });
  return { handles: await tpm.persistentHandles(), indices: await tpm.nvIndices() };
}

/** The process that holds the lock of the state, as its file says. */
const holderOf = (node: LabNode): number => Number(readIfPresent(`${node.stateDirectory}/lock`) ?? 0);

describe('provision, with a TPM', () => {
  it('says with --dry-run what it would make, and makes nothing in the TPM or on the disk', async () => {
    await using node = await labNode(scratch, 'dry', { tpm: true });
    const before = await heldBy(node);
    const said = await node.ask<ProvisionResult>(provision('--dry-run'));
    expect(said.changed).toEqual([
      'srk at 0x81000001',
      'ak at 0x81010020',
      'sequence-counter at 0x01810020',
      'armed-counter at 0x01810021',
      'custody-head at 0x01810022',
      'signing-key',
      'lockout',
      'node',
      'enrolment',
      'key:wireguard (its share at 0x01810023)',
      'key:drbg-seed (its share at 0x01810024)',
      'approval',
    ]);
    // Every object with its attributes, as it will stand.
    expect(said.owns).toContainEqual({
      handle: '0x01810021',
      what: 'armed-counter',
      kind: 'NV index',
      attributes: ['counter', 'ownerWrite', 'authWrite', 'ownerRead', 'authRead', 'noDA'],
      adopted: false,
    });
    const sealed = ['fixedTPM', 'fixedParent', 'adminWithPolicy', 'noDA'];
    expect(said.planned).toEqual({
      blobs: [
        {
          what: 'signing-key',
          attributes: ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'userWithAuth', 'noDA', 'sign'],
        },
        { what: 'key:wireguard', attributes: sealed },
        { what: 'key:drbg-seed', attributes: sealed },
      ],
      lockout: { maxTries: 32, recoverySeconds: 600 },
    });
    const words = (
      await esoteric(['provision', '--config', node.config, '--profile', profile('relay'), '--dry-run'])
    ).stdout.toString();
    expect(words).toContain('lockout would be set to 32 tries, one forgiven every 600 s');
    expect(words).toMatch(/key wireguard .*, to be sealed in the TPM/);
    expect(words).not.toContain('volatile');
    expect(await heldBy(node)).toEqual(before);
    expect(existsSync(node.stateDirectory)).toBe(false);
    const made = await node.ask<ProvisionResult>(provision());
    expect(made.changed.map((step) => `${step} `.split(' ')[0]).sort()).toEqual(
      said.changed.map((step) => step.split(' ')[0]).sort(),
    );
    expect(made.owns).toEqual(said.owns);
    const files = contentOf(node.stateDirectory);
    expect(await node.ask<ProvisionResult>(provision('--dry-run'))).toMatchObject({
      changed: [],
      planned: { blobs: [], lockout: null },
    });
    expect(contentOf(node.stateDirectory)).toEqual(files);
  });

  it('makes everything once: a second run changes nothing in the TPM, on the disk or in its answer', async () => {
    await using node = await labNode(scratch, 'twice', { tpm: true });
    const first = await node.ask<ProvisionResult>(provision());
    const held = await heldBy(node);
    const files = contentOf(node.stateDirectory);
    const second = await node.ask<ProvisionResult>(provision());
    expect(second).toEqual({ ...first, changed: [] });
    expect(await heldBy(node)).toEqual(held);
    files.delete(`${node.stateDirectory}/lock`);
    const after = contentOf(node.stateDirectory);
    after.delete(`${node.stateDirectory}/lock`);
    expect(after).toEqual(files);
  });

  it('adopts a storage root key that stands there already, and seals new keys beside the old ones', async () => {
    await using node = await labNode(scratch, 'adopt', { tpm: true });
    const first = await node.ask<ProvisionResult>(['provision']);
    expect(first.tpm?.srk.adopted).toBe(false);
    rmSync(node.stateDirectory, { recursive: true });
    const second = await node.ask<ProvisionResult>(['provision']);
    expect(second.tpm?.srk).toEqual({ ...first.tpm?.srk, adopted: true });
    expect(second.tpm?.ak).toEqual(first.tpm?.ak);
    expect(second.owns.filter(({ adopted }) => adopted).map(({ what }) => what)).toEqual(['srk', 'ak']);
    const more = `[[keys]]\nname = "extra"\npurpose = "macsec"\n`;
    writeFileSync(node.config, `${readFileSync(node.config, 'utf8')}${more}`);
    const third = await node.ask<ProvisionResult>(['provision']);
    expect(third.changed).toEqual(['node', 'key:extra', 'approval']);
    const extra = { name: 'extra', purpose: 'macsec', publicKey: null, sealed: true };
    expect(third.keys).toEqual([...second.keys, extra]);
  });

  it('completes after kill -9 at any instant, with one of each anchor and no orphan', async () => {
    await using node = await labNode(scratch, 'killed', { tpm: true });
    const words = [
      '--disable-warning=ExperimentalWarning',
      'src/cli/main.ts',
      ...provision(),
      ...node.arguments,
    ];
    let killed = 0;
    for (let n = 0; n < 12; n += 1) {
      const child = spawn(process.execPath, words, { stdio: 'ignore' });
      const exited = once(child, 'exit') as Promise<[number | null, string | null]>;
      await until('it works on the state', () =>
        child.exitCode !== null || holderOf(node) === child.pid ? true : undefined,
      );
      await sleep((n + Math.random()) * 10);
      child.kill('SIGKILL');
      const [, signal] = await exited;
      if (signal === 'SIGKILL') killed += 1;
    }
    expect(killed).toBeGreaterThan(2);
    const made = await node.ask<ProvisionResult>(provision());
    expect(made.keys.map(({ name, sealed }) => [name, sealed])).toEqual([
      ['wireguard', true],
      ['drbg-seed', true],
    ]);
    expect(await heldBy(node)).toEqual({
      handles: [0x81000001, 0x81010020],
      indices: [0x01810020, 0x01810021, 0x01810022, 0x01810023, 0x01810024],
    });
    expect(made.owns.every(({ adopted }) => !adopted)).toBe(true);
    expect(await node.ask(['custody', 'check'])).toMatchObject({ ok: true });
    expect((await node.ask<ProvisionResult>(provision())).changed).toEqual([]);
    await node.run(); // What was sealed opens.
  });

  it('refuses where the sealed state is another kind of node, and touches nothing', async () => {
    await using node = await labNode(scratch, 'kind', { tpm: true });
    await node.ask(provision());
    const files = contentOf(node.stateDirectory);
    const refusal = await refusalOf(['provision', '--no-tpm', '--config', node.config]);
    expect(refusal).toMatchObject({ status: 1, code: 'provisioned-otherwise', kept: 'Nothing was touched.' });
    files.delete(`${node.stateDirectory}/lock`);
    const after = contentOf(node.stateDirectory);
    after.delete(`${node.stateDirectory}/lock`);
    expect(after).toEqual(files);
  });
});

describe('provision, without a TPM', () => {
  it('says how to get one where none answers and --no-tpm is not given', async () => {
    const refusal = await refusalOf([
      ...provision('--state-dir', scratch.at('no-tpm'), '--tpm', `swtpm:path=${scratch.at('nobody.sock')}`),
    ]);
    expect(refusal).toMatchObject({ status: 1, code: 'tpm-unreachable' });
    expect(refusal.remedy).toMatch(/swtpm socket .*--no-tpm/);
  });

  it('makes a node with volatile keys, says so everywhere, and changes nothing the second time', async () => {
    await using node = await labNode(scratch, 'volatile');
    const first = await node.ask<ProvisionResult>(provision());
    expect(first).toMatchObject({
      assurance: { tpm: 'bypassed', sigstore: 'bypassed' },
      tpm: null,
      keys: [
        { name: 'wireguard', publicKey: null, sealed: false },
        { name: 'drbg-seed', publicKey: null, sealed: false },
      ],
      changed: ['node', 'enrolment'],
    });
    expect((await node.ask<ProvisionResult>(provision())).changed).toEqual([]);
    expect((await node.status()).assurance).toEqual(first.assurance);
    const [record] = await node.ask<CustodyRecord[]>(['custody', 'show']);
    expect(record).toMatchObject({ event: 'provisioned', detail: { assurance: first.assurance } });
    const told = await esoteric([...provision(), ...node.arguments]);
    expect(told.stderr).toMatch(/BYPASS {2}TPM[\s\S]*BYPASS {2}Sigstore/);
  });

  it('still changes nothing after a run has written its volatile keys into the enrolment record', async () => {
    await using node = await labNode(scratch, 'ran');
    await node.ask(provision());
    await node.run();
    await node.stop();
    const enrolment = readFileSync(`${node.stateDirectory}/enrolment.json`, 'utf8');
    expect(JSON.parse(enrolment).keys).toHaveLength(1);
    expect((await node.ask<ProvisionResult>(provision())).changed).toEqual([]);
    expect(readFileSync(`${node.stateDirectory}/enrolment.json`, 'utf8')).toBe(enrolment);
  });
});

describe('provision, where tpm2-tss is not installed', () => {
  /** The program in a mount namespace where every library of tpm2-tss is an empty file. */
  async function withoutTss(...args: string[]) {
    const empty = scratch.at('empty.so');
    writeFileSync(empty, '');
    const hide = `ldconfig -p | sed -n 's/.*libtss2.*=> //p' | while read -r library; do mount --bind "$0" "$library"; done; exec "$@"`;
    const program = [
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      'src/cli/main.ts',
      ...args,
      '--json',
    ];
    const { status, stdout, stderr } = await runChild('unshare', [
      '--mount',
      'sh',
      '-c',
      hide,
      empty,
      ...program,
    ]);
    return { status, stderr, answer: JSON.parse(stdout.toString()) as Record<string, unknown> };
  }

  it('works with --no-tpm', async () => {
    const state = scratch.at('without-tss');
    const made = await withoutTss(...provision('--no-tpm', '--no-sigstore', '--state-dir', state));
    expect(made).toMatchObject({ status: 0, answer: { tpm: null, assurance: { tpm: 'bypassed' } } });
    expect(await withoutTss('status', '--no-tpm', '--state-dir', state)).toMatchObject({
      status: 0,
      answer: { state: 'sealed', assurance: { tpm: 'bypassed' } },
    });
    expect((await withoutTss('doctor', '--no-tpm', '--state-dir', state)).status).toBe(0);
  });

  it('says without --no-tpm that it is missing and how to install it', async () => {
    await using node = await labNode(scratch, 'tss', { tpm: true });
    const refused = await withoutTss(...provision('--config', node.config));
    expect(refused).toMatchObject({ status: 1, answer: { error: { code: 'tss-missing' } } });
    expect(JSON.stringify(refused.answer)).toMatch(/apt-get install libtss2.*--no-tpm/);
  });
});
