// A node is not alone at its TPM: tpm2-tools, clevis and systemd-cryptenroll use the same one. What they have there is adopted or
// passed by, opens before and after, and stands when the node is gone.
import { createHash, verify as verifySignature } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import { NodeKeys } from '../../src/appliance/node-keys.ts';
import { readNodeRecord } from '../../src/appliance/node-record.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import type { VerifyReport } from '../../src/forensics/claims.ts';
import { requireChild, runChild } from '../../src/host/child.ts';
import { parseAttest } from '../../src/tpm/structures.ts';
import { esoteric } from '../lab/node.ts';
import { Bench, type Holdings, heldIn } from './power.ts';
import { labNode, profile, Scratch } from './scene.ts';

const srk = '0x81000001';
const countingNone = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt';
const onPath = (program: string): boolean =>
  (process.env.PATH ?? '').split(':').some((directory) => existsSync(join(directory, program)));

describe('beside other users of the TPM', () => {
  let bench: Bench;
  beforeAll(async () => {
    bench = await Bench.start();
    await bench.save('found');
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await bench.load('found');
  });

  const tool = (name: string, ...args: string[]) =>
    requireChild(`tpm2_${name}`, ['-T', bench.swtpm.tcti, ...args], { cwd: bench.directory });
  /** Without a resource manager, what the tools load stays. */
  const flush = async () => {
    for (const kind of ['-t', '-l', '-s']) await tool('flushcontext', kind);
  };
  const persist = async (handle: string, ...template: string[]) => {
    await tool('createprimary', '-C', 'o', ...template, '-c', 'theirs.ctx');
    await tool('evictcontrol', '-C', 'o', '-c', 'theirs.ctx', handle);
    await flush();
  };
  /** As an operating system goes down, and comes up: without the first, a TPM takes it for a power cut. */
  const reboot = async () => {
    await tool('shutdown', '-c');
    await bench.boot();
  };
  /** Handles as tpm2_getcap lists them. */
  const listed = async (): Promise<string[]> => {
    const lists = ['handles-persistent', 'handles-nv-index'].map((kind) => tool('getcap', kind));
    const lines: string[] = [];
    for (const list of lists) lines.push((await list).stdout.toString());
    return [...lines.join('\n').matchAll(/0x[0-9A-F]+/gi)]
      .map(([handle]) => `0x${handle.slice(2).toLowerCase().padStart(8, '0')}`)
      .sort();
  };

  it.each([
    ['RSA, the default of tpm2-tools', []],
    ['RSA that counts no tries', ['-a', countingNone]],
    ['P-256, the default of systemd', ['-G', 'ecc']],
    ['P-384 named with SHA-384', ['-G', 'ecc384', '-g', 'sha384']],
  ])(
    'adopts a storage root key by another template (%s), and everything works with it',
    async (_, template) => {
      await persist(srk, ...template);
      const theirs = await bench.holdings();
      const made = await bench.provision();
      expect(made.tpm?.srk).toEqual({ handle: srk, name: theirs.objects[srk], adopted: true });
      const attributes = made.owns.find(({ what }) => what === 'srk')?.attributes ?? [];
      expect(attributes).toContain('restricted');
      expect(attributes.includes('noDA')).toBe(template.includes(countingNone)); // As it stands there, not as we would have made it.
      expect((await bench.provision()).changed).toEqual([]);
      await reboot();
      expect(Object.keys(await bench.openKeys())).toHaveLength(2);
      const { tpm } = readNodeRecord(bench.layout);
      if (tpm === null) throw new Error('no TPM');
      {
        await using keys = await NodeKeys.open(bench.config(), tpm);
        const message = Buffer.from('evidence');
        const signature = await keys.sign(message);
        expect(verifySignature('sha256', message, made.tpm?.signingKey.publicKey ?? '', signature)).toBe(
          true,
        );
        const { attest } = await keys.quote(createHash('sha256').update(message).digest());
        expect(parseAttest(attest).type).toBe('quote');
      }
      await bench.giveBack();
      expect(await bench.holdings()).toEqual(theirs);
    },
  );

  it('says of an adopted key that power cuts count against it, and so they do', async () => {
    await persist(srk);
    const made = await bench.provision();
    expect(made.assurance.notes).toContainEqual(
      expect.stringMatching(/counts wrong tries, power cuts among them/),
    );
    const { lockout } = await bench.holdings();
    expect(lockout).toMatchObject({ counter: 0, max: 32 });
    await bench.openKeys();
    await reboot();
    expect((await bench.holdings()).lockout.counter).toBe(0);
    await bench.openKeys();
    await bench.boot();
    expect((await bench.holdings()).lockout.counter).toBe(1);
    expect(Object.keys(await bench.openKeys())).toHaveLength(2);
  });

  it('passes by the handles and indices that others hold in its ranges, and owns just what is there more', async () => {
    await persist('0x81010020', '-G', 'ecc');
    await persist('0x81010021');
    const theirs = ['0x01810020', '0x01810022', '0x01810025'];
    for (const index of theirs)
      await tool('nvdefine', index, '-C', 'o', '-s', '32', '-a', 'ownerread|ownerwrite');
    writeFileSync(join(bench.directory, 'content'), Buffer.alloc(32, 0x5a));
    await tool('nvwrite', '0x01810022', '-C', 'o', '-i', 'content');
    const before = await listed();
    const found = await bench.holdings();
    const made = await bench.provision();
    const more = (await listed()).filter((handle) => !before.includes(handle));
    expect(made.owns.map(({ handle }) => handle).sort()).toEqual(more);
    expect(made.owns.map(({ what, handle }) => [what, handle])).toEqual([
      ['srk', srk],
      ['ak', '0x81010022'],
      ['sequence-counter', '0x01810021'],
      ['armed-counter', '0x01810023'],
      ['custody-head', '0x01810024'],
      ['share:wireguard', '0x01810026'],
      ['share:drbg-seed', '0x01810027'],
    ]);
    await bench.giveBack();
    expect(await bench.holdings()).toEqual(found);
    expect((await tool('nvread', '0x01810022', '-C', 'o')).stdout).toEqual(Buffer.alloc(32, 0x5a));
  });

  it('leaves what somebody defines beside it later, also when it seals another key', async () => {
    await bench.provision();
    await tool('nvdefine', '0x01810025', '-C', 'o', '-s', '16', '-a', 'ownerread|ownerwrite');
    const config = { ...bench.config(), keys: [{ name: 'extra', purpose: 'macsec' as const }] };
    const { provision } = await import('../../src/appliance/provision.ts');
    const more: ProvisionResult = await provision(config);
    expect(more.owns.at(-1)).toMatchObject({ what: 'share:extra', handle: '0x01810026' });
    await bench.giveBack();
    expect(heldIn(await bench.holdings())).toEqual(['0x01810025']);
  });

  /** Opens before the node comes, while it is there, after a start, and when it has gone. */
  async function throughALife(opens: () => Promise<void>): Promise<void> {
    await flush();
    await opens();
    await flush();
    const found: Holdings = await bench.holdings();
    const made = await bench.provision();
    await opens();
    expect((await bench.provision()).changed).toEqual([]);
    await reboot();
    await opens();
    await flush();
    expect(Object.keys(await bench.openKeys())).toEqual(made.keys.map(({ name }) => name));
    await bench.giveBack();
    await opens();
    await flush();
    expect(await bench.holdings()).toEqual(found);
  }

  it('leaves what clevis has sealed to open as before', async (context) => {
    context.skip(!onPath('clevis-encrypt-tpm2'), 'clevis is not installed');
    const env = { ...process.env, TPM2TOOLS_TCTI: bench.swtpm.tcti };
    const clevis = (input: Uint8Array, ...args: string[]) =>
      requireChild('clevis', args, { input, env, cwd: bench.directory });
    const pin = '{"pcr_bank":"sha256","pcr_ids":"0,7"}';
    const sealed = (await clevis(Buffer.from('theirs'), 'encrypt', 'tpm2', pin)).stdout;
    await throughALife(async () => {
      expect((await clevis(sealed, 'decrypt')).stdout.toString()).toBe('theirs');
    });
  });

  it('leaves what systemd has sealed to open as before', async (context) => {
    // systemd-cryptenroll seals by the same code, but what opens its disks looks for no other TPM than the kernel's.
    context.skip(!onPath('systemd-creds'), 'systemd-creds is not installed');
    const creds = (...args: string[]) =>
      requireChild('systemd-creds', [`--tpm2-device=${bench.swtpm.tcti}`, ...args], { cwd: bench.directory });
    writeFileSync(join(bench.directory, 'plain'), 'theirs');
    await creds('--with-key=tpm2', '--tpm2-pcrs=0+7', '--name=disk', 'encrypt', 'plain', 'sealed');
    const open = () => creds('--name=disk', 'decrypt', 'sealed', '-');
    await throughALife(async () => {
      expect((await open()).stdout.toString()).toBe('theirs');
    });
    await tool('pcrextend', `7:sha256=${'07'.repeat(32)}`);
    await expect(open()).rejects.toThrow(); // So it is the TPM that opens it.
  });
});

describe('a node whose storage root key others made', () => {
  const scratch = new Scratch();
  afterAll(() => scratch[Symbol.dispose]());

  it('runs, collects evidence that verifies, and leaves the key when it goes', async () => {
    await using node = await labNode(scratch, 'adopted', { tpm: true });
    const tcti = node.tpm?.tcti ?? '';
    const tool = (name: string, ...args: string[]) =>
      requireChild(`tpm2_${name}`, ['-T', tcti, ...args], { cwd: scratch.path });
    await tool('createprimary', '-C', 'o', '-c', 'theirs.ctx');
    await tool('evictcontrol', '-C', 'o', '-c', 'theirs.ctx', srk);
    await tool('flushcontext', '-t');
    const name = (await tool('readpublic', '-c', srk, '-n', 'name')) && readFileSync(scratch.at('name'));
    const made = await node.ask<ProvisionResult>(['provision', '--profile', profile('relay')]);
    expect(made.tpm?.srk).toEqual({ handle: srk, name: name.toString('hex'), adopted: true });
    await node.run();
    const { archive, problems } = await node.ask<BundleMade>(['collect-forensics', '--reason', 'adopted']);
    expect(problems).toEqual([]);
    const words = ['verify', archive, '--enrolment', made.enrolment, '--allow-bypassed', '--json'];
    const report = JSON.parse((await esoteric(words)).stdout.toString()) as VerifyReport;
    expect(report.claims.filter(({ result }) => result === 'failed')).toEqual([]);
    const proven = report.claims.filter(({ result }) => result === 'proven').map(({ claim }) => claim);
    expect(proven).toEqual(expect.arrayContaining(['signature', 'sequence']));
    await node.stop();
    expect((await runChild('tpm2_getcap', ['-T', tcti, 'handles-transient'])).stdout.toString()).toBe('');
    await node.ask(['deprovision', '--yes']);
    await tool('readpublic', '-c', srk, '-n', 'name');
    expect(readFileSync(scratch.at('name'))).toEqual(name);
  });
});
