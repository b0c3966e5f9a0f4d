// A TPM that is in trouble, or in a state that nobody should seal to: what a node does with it works or is refused in plain words,
// counts nothing towards a lockout, and completes once the trouble is over.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isUnsignedNote } from '../../src/appliance/assurance.ts';
import { collectForensics } from '../../src/appliance/collect.ts';
import { examine } from '../../src/appliance/doctor.ts';
import { readNodeRecord } from '../../src/appliance/node-record.ts';
import { provision } from '../../src/appliance/provision.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import { conditionOfStopped } from '../../src/appliance/tpm-condition.ts';
import { whatIf } from '../../src/appliance/what-if.ts';
import { requireChild, runChild } from '../../src/host/child.ts';
import { handleText } from '../../src/keys/anchors.ts';
import { startSwtpm } from '../lab/swtpm.ts';
import { Bench, type Holdings, heldIn, owned } from './power.ts';

const guarded = '0x01800100';
const asking = [0x17a, 0x17e, 0x181]; // GetCapability, PCR_Read, ReadClock

describe('a TPM', () => {
  let bench: Bench;
  let found: Holdings;
  beforeAll(async () => {
    bench = await Bench.start();
    await bench.save('found');
    found = await bench.holdings();
    await bench.provision();
    await bench.save('provisioned');
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await bench.load('found');
  });

  const tool = (name: string, ...args: string[]) =>
    requireChild(`tpm2_${name}`, ['-T', bench.swtpm.tcti, ...args], { cwd: bench.directory });
  const findingOf = async (name: string, config = bench.config()) =>
    (await examine(config)).find(({ check }) => check === name);
  const lockoutFinding = () => findingOf('TPM lockout');

  describe('in lockout', () => {
    const tries = 3;
    /** Somebody tries wrong passwords until the TPM has had enough. */
    const lockOut = async () => {
      await tool('nvdefine', guarded, '-C', 'o', '-s', '8', '-a', 'authread|authwrite', '-p', 'right');
      const limits = ['--max-tries=3', '--recovery-time=1000', '--lockout-recovery-time=1000'];
      await tool('dictionarylockout', '--setup-parameters', ...limits);
      for (let wrong = 0; wrong < tries; wrong++) {
        const words = ['-T', bench.swtpm.tcti, guarded, '-C', guarded, '-P', 'wrong', '-i', '/etc/hostname'];
        expect((await runChild('tpm2_nvwrite', words)).status).not.toBe(0);
      }
      expect((await bench.holdings()).lockout).toMatchObject({ counter: tries, inLockout: true });
    };

    it('provisions, opens its keys and gives back: what is made here counts no tries', async () => {
      await lockOut();
      const { lockout } = await bench.holdings();
      const made = await bench.provision();
      expect(made.changed).not.toContain('lockout');
      expect(Object.keys(await bench.openKeys())).toEqual(made.keys.map(({ name }) => name));
      expect((await bench.holdings()).lockout).toEqual(lockout);
      expect(await lockoutFinding()).toMatchObject({
        result: 'missing',
        detail: expect.stringContaining(
          'locked out: 3 of 3 wrong authorizations, one is forgiven every 1000 s',
        ),
        remedy: expect.stringMatching(/^Wait 1000 s, or .*tpm2_dictionarylockout --clear-lockout/),
      });
      await bench.giveBack();
      expect((await bench.holdings()).lockout).toEqual(lockout);
      await tool('dictionarylockout', '--clear-lockout');
      expect(await lockoutFinding()).toMatchObject({
        result: 'ok',
        detail: expect.stringMatching(/^0 of 3/),
      });
    });

    it('is said to stop a node whose storage root key others made so, and is not walked into', async () => {
      await tool('createprimary', '-C', 'o', '-c', 'theirs.ctx'); // By its default template it counts wrong tries.
      await tool('evictcontrol', '-C', 'o', '-c', 'theirs.ctx', '0x81000001');
      await tool('flushcontext', '-t');
      const made = await bench.provision();
      expect(made.assurance.notes).toContainEqual(expect.stringContaining('counts wrong tries'));
      await lockOut();
      const before = await bench.holdings();
      const locked = {
        code: 'tpm-lockout',
        message: expect.stringContaining('it is locked out after too many wrong authorizations'),
        remedy: expect.stringContaining('Do not retry'),
      };
      await expect(bench.openKeys()).rejects.toMatchObject(locked);
      const { keys } = bench.config();
      expect(keys).toEqual([]);
      const more = { ...bench.config(), keys: [{ name: 'extra', purpose: 'macsec' as const }] };
      await expect(provision(more)).rejects.toMatchObject({
        ...locked,
        kept: expect.stringContaining('the same command completes it'),
      });
      expect((await bench.holdings()).lockout).toEqual(before.lockout);
      await tool('dictionarylockout', '--clear-lockout');
      const completed = await provision(more);
      expect(completed.keys.map(({ name }) => name)).toContain('extra');
      expect(Object.keys(await bench.openKeys())).toHaveLength(3);
      expect(heldIn(await bench.holdings())).toEqual([...owned(completed), guarded].sort());
    });
  });

  it('in failure mode is named so, with what to do, and the node completes once it is replaced', async () => {
    await bench.load('found');
    // swtpm has nowhere to write to any more.
    const moved = `${bench.directory}/moved`;
    renameSync(bench.swtpm.directory, moved);
    const config = bench.config({ tcti: `swtpm:path=${moved}/swtpm.sock` });
    try {
      const failed = {
        code: 'tpm-failed',
        message: expect.stringContaining('it is in failure mode'),
        remedy: expect.stringContaining('Power the machine off and on.'),
      };
      // The first is the command that it failed at; what is flushed on the way out must not hide it.
      await expect(provision(config)).rejects.toMatchObject({
        ...failed,
        message: expect.stringContaining('EvictControl'),
        kept: expect.stringContaining('the same command completes it'),
      });
      await expect(provision(config)).rejects.toMatchObject(failed);
      expect(await findingOf('TPM', config)).toMatchObject({
        result: 'missing',
        remedy: failed.remedy,
      });
    } finally {
      await bench.swtpm.stop();
      renameSync(moved, bench.swtpm.directory);
    }
    await bench.boot();
    const made = await bench.provision();
    expect(heldIn(await bench.holdings())).toEqual(owned(made));
  });

  it('without room in NV refuses at whatever needs some, gives all back or completes once there is room', async () => {
    const fillers: string[] = [];
    const fill = async (byteLength: number) => {
      await using tpm = await bench.open();
      for (let index = 0x01800200; ; index++) {
        if (fillers.includes(handleText(index))) continue;
        await tpm.nvDefine(index, { attributes: 'ordinary', byteLength });
        fillers.push(handleText(index));
      }
    };
    const free = async () => {
      await using tpm = await bench.open();
      await tpm.nvUndefine(Number(fillers.pop()));
    };
    const refused = {
      code: 'tpm-nv-full',
      kept: expect.stringContaining('`deprovision` gives it back'),
      remedy: expect.stringContaining('Undefine NV indices that nothing uses'),
    };
    await expect(fill(2048)).rejects.toMatchObject({ code: 'tpm-nv-full' });
    await free();
    await expect(fill(8)).rejects.toMatchObject({ code: 'tpm-nv-full' });
    await expect(bench.provision()).rejects.toMatchObject(refused);
    await bench.giveBack();
    expect(heldIn(await bench.holdings())).toEqual([...fillers].sort());

    await expect(fill(8)).rejects.toMatchObject({ code: 'tpm-nv-full' });
    const stuckAt = new Set<string>();
    let made: ProvisionResult | undefined;
    while (made === undefined) {
      const steps: string[] = [];
      try {
        made = await bench.provision({ onStep: (step) => steps.push(step) });
      } catch (error) {
        expect(error).toMatchObject(refused);
        stuckAt.add(steps.at(-1) ?? '');
        await free();
      }
    }
    expect(stuckAt.size).toBeGreaterThan(2);
    expect(heldIn(await bench.holdings())).toEqual([...owned(made), ...fillers].sort());
    expect(Object.keys(await bench.openKeys())).toHaveLength(2);
    expect((await bench.provision()).changed).toEqual([]);
  });

  it('without a free slot for objects refuses, and evicts nobody who may still need them', async () => {
    // Reached in a way where others may be at work: nothing is flushed there.
    process.env.TCTI_PCAP_FILE = join(bench.directory, 'slots.pcap');
    const shared = bench.config({ tcti: `pcap:${bench.swtpm.tcti}` });
    const load = () => tool('createprimary', '-C', 'o', '-G', 'ecc', '-c', 'loaded.ctx');
    const loaded = async () => (await tool('getcap', 'handles-transient')).stdout.toString();
    for (let slot = 0; slot < 3; slot++) await load();
    const before = await loaded();
    expect(before.match(/0x8000000/g)).toHaveLength(3);
    await expect(provision(shared)).rejects.toMatchObject({
      code: 'tpm-memory',
      message: expect.stringContaining('it has no room for another object'),
      remedy: expect.stringContaining('Close other programs that use the TPM'),
    });
    expect(await loaded()).toBe(before);
    await tool('flushcontext', '-t');
    expect((await provision(shared)).changed).toContain('srk');
    // Nor by whoever only looks, though it be alone there.
    await load();
    const one = await loaded();
    const alone = bench.config();
    const condition = await conditionOfStopped(alone, bench.layout, readNodeRecord(bench.layout));
    expect(condition).toMatchObject({ answers: true, approval: 'approved' });
    expect(await findingOf('TPM', alone)).toMatchObject({ result: 'ok' });
    expect((await provision(alone, { dryRun: true })).changed).toEqual([]);
    const prediction = { eventLog: undefined, pcrs: new Map(), request: undefined };
    expect(await whatIf(alone, prediction)).toMatchObject({ survives: true });
    expect(await loaded()).toBe(one);
    await tool('flushcontext', '-t');
    for (let slot = 0; slot < 3; slot++) await load();
    await expect(provision(shared)).rejects.toMatchObject({ code: 'tpm-memory' });
    expect(await loaded()).toBe(before);
    // Where this program alone is at the TPM, whatever is loaded was abandoned.
    expect((await bench.provision()).changed).toEqual([]);
    expect(await loaded()).toBe('');
    expect(await bench.holdings()).not.toEqual(found);
  });

  it('that no firmware has measured into is refused, or said everywhere', async () => {
    await bench.swtpm.restart();
    bench.proxy.reset();
    await expect(bench.provision()).rejects.toMatchObject({
      code: 'tpm-no-measured-boot',
      message: expect.stringContaining('PCR 0, 7'),
      kept: 'Nothing was made in the TPM.',
    });
    expect(await findingOf('measured boot')).toMatchObject({
      result: 'missing',
      detail: expect.stringContaining('PCR 0, 7'),
      remedy: expect.stringContaining('--allow-unmeasured'),
    });
    expect(bench.proxy.codes.filter((code) => !asking.includes(code))).toEqual([]);
    expect(await bench.holdings()).toEqual(found);
    const note = 'no measured boot: nothing is in PCR 0, 7';
    const made = await bench.provision({ allowUnmeasured: true });
    expect(made.assurance.notes).toContain(note);
    expect((await bench.provision()).assurance.notes).toContain(note);
    // Once it measures, that is another state, and nothing is left to be said.
    await bench.boot();
    await expect(bench.openKeys()).rejects.toMatchObject({ code: 'approval-pcrs' });
    expect((await bench.provision()).changed).toContain('approval');
    expect((await bench.provision()).assurance.notes).not.toContain(note);
  });

  it('without its SHA-256 bank is refused, before and after provisioning', async () => {
    const without = async () => {
      await tool('pcrallocate', 'sha1:all+sha256:none+sha384:all');
      await bench.swtpm.restart();
      bench.proxy.reset();
    };
    await without();
    await expect(bench.provision()).rejects.toMatchObject({
      code: 'tpm-no-sha256',
      remedy: expect.stringContaining('Switch the bank on'),
    });
    expect(await findingOf('measured boot')).toMatchObject({
      result: 'missing',
      remedy: expect.stringContaining('Switch the bank on'),
    });
    expect(bench.proxy.codes.filter((code) => !asking.includes(code))).toEqual([]);
    await bench.load('provisioned');
    await without();
    const refused = { code: 'tpm-no-pcr', remedy: expect.stringContaining('Switch the sha256 bank on') };
    await expect(bench.provision()).rejects.toMatchObject(refused);
    await expect(bench.openKeys()).rejects.toMatchObject(refused);
    await bench.giveBack();
    expect(heldIn(await bench.holdings())).toEqual([]);
  });

  it.each(['owner', 'endorsement'])(
    'with an authorization for its %s hierarchy is refused before anything is tried',
    async (hierarchy) => {
      await tool('changeauth', '-c', hierarchy, 'secret');
      bench.proxy.reset();
      const refused = {
        code: 'tpm-owned',
        message: expect.stringContaining(`its ${hierarchy} hierarchy`),
        kept: expect.stringContaining('Nothing was tried'),
        remedy: expect.stringContaining(`tpm2_changeauth -c ${hierarchy} -p OLD`),
      };
      await expect(bench.provision()).rejects.toMatchObject(refused);
      await expect(bench.provision({ dryRun: true })).rejects.toMatchObject(refused);
      expect(await findingOf('TPM hierarchies')).toMatchObject({
        result: 'missing',
        detail: refused.message,
        remedy: refused.remedy,
      });
      expect(bench.proxy.codes.filter((code) => !asking.includes(code))).toEqual([]);
      expect(await bench.holdings()).toEqual(found);
    },
  );

  it('whose owner sets an authorization later is refused by all that changes it; endorsement is not needed then', async () => {
    await bench.load('provisioned');
    const held = await bench.holdings();
    await tool('changeauth', '-c', 'endorsement', 'secret');
    expect((await bench.provision()).changed).toEqual([]);
    await tool('changeauth', '-c', 'owner', 'secret');
    bench.proxy.reset();
    for (const change of [() => bench.provision(), () => bench.giveBack(), () => bench.reseal()]) {
      await expect(change()).rejects.toMatchObject({ code: 'tpm-owned' });
    }
    expect(bench.proxy.codes.filter((code) => !asking.includes(code))).toEqual([]);
    await expect(bench.openKeys()).rejects.toMatchObject({ code: 'tpm-authorization' });
    expect(await bench.holdings()).toEqual(held); // Nothing was counted either.
    await tool('changeauth', '-c', 'owner', '-p', 'secret');
    await bench.giveBack();
    expect(heldIn(await bench.holdings())).toEqual([]);
  });

  it('whose lockout authorization others set keeps its lockout parameters', async () => {
    await tool('changeauth', '-c', 'lockout', 'secret');
    const made = await bench.provision();
    expect(made.changed).not.toContain('lockout');
    expect((await bench.holdings()).lockout).toEqual(found.lockout);
    expect(await bench.giveBack()).toMatchObject({ lockoutRestored: false });
    await bench.load('provisioned');
    await tool('changeauth', '-c', 'lockout', 'secret');
    expect((await bench.holdings()).lockout).not.toEqual(found.lockout);
    expect(await bench.giveBack()).toMatchObject({ lockoutRestored: false });
  });

  it.each([
    ['shEnable', 'owner'],
    ['ehEnable', 'endorsement'],
  ])('with %s cleared is refused before anything is tried, until the next start', async (bit, hierarchy) => {
    await tool('hierarchycontrol', '-C', 'p', bit, 'clear');
    bench.proxy.reset();
    await expect(bench.provision()).rejects.toMatchObject({
      code: 'tpm-hierarchy-disabled',
      message: expect.stringContaining(hierarchy),
      remedy: expect.stringContaining('firmware setup'),
    });
    expect(await findingOf('TPM hierarchies')).toMatchObject({ result: 'missing' });
    expect(bench.proxy.codes.filter((code) => !asking.includes(code))).toEqual([]);
    await bench.boot();
    expect((await bench.provision()).changed).toContain('srk');
  });

  it('is left as it was found where the CA certificates to judge it by cannot be taken', async () => {
    const authority = join(bench.directory, 'swtpm-localca');
    mkdirSync(authority);
    writeFileSync(join(authority, 'certserial'), '1');
    const config = bench.config({ ek_ca: authority });
    for (const dryRun of [true, false]) {
      await expect(provision(config, { dryRun })).rejects.toMatchObject({
        code: 'ek-ca-invalid',
        status: 2,
        message: expect.stringContaining(join(authority, 'certserial')),
        remedy: expect.stringContaining('copy them into one of their own'),
      });
    }
    expect(bench.proxy.codes).toEqual([]);
    expect(await bench.holdings()).toEqual(found);
  });

  it("that is not the node's own is named so by all that looks at it, and in the bundle that it cannot sign", async () => {
    await bench.load('provisioned');
    const record = readNodeRecord(bench.layout);
    expect((await examine(bench.config())).filter(({ check }) => /TPM|boot/.test(check))).toMatchObject([
      {
        check: 'TPM',
        result: 'ok',
        detail: expect.stringContaining('the one that bench was provisioned with'),
      },
      { check: 'TPM hierarchies', result: 'ok' },
      { check: 'measured boot', result: 'ok' },
      { check: 'TPM lockout', result: 'ok' },
    ]);
    const other = await startSwtpm(join(bench.directory, 'other'));
    try {
      const config = bench.config({ tcti: other.tcti });
      const swapped = { code: 'tpm-swapped', remedy: expect.stringContaining('check tpm.tcti') };
      await expect(provision(config, { dryRun: true })).rejects.toMatchObject(swapped);
      const prediction = { eventLog: undefined, pcrs: new Map(), request: undefined };
      await expect(whatIf(config, prediction)).rejects.toMatchObject(swapped);
      expect(await conditionOfStopped(config, bench.layout, record)).toEqual({
        answers: true,
        approval: 'tpm-swapped',
        lockout: null,
      });
      expect(await findingOf('TPM', config)).toMatchObject({ result: 'missing', remedy: swapped.remedy });
      const made = await collectForensics(config, { reason: 'swapped', upload: '' }, () => {});
      expect(made.problems).toContainEqual(expect.stringMatching(/^TPM: This is not the TPM that the node/));
      const { stdout } = await requireChild('tar', ['-xOf', made.archive, 'manifest.json']);
      const { assurance } = JSON.parse(stdout.toString()) as { assurance: { notes: string[] } };
      expect(assurance.notes).toContain('the TPM could not be used (tpm-swapped): this bundle is unsigned');
      expect(assurance.notes.filter(isUnsignedNote)).toHaveLength(1);
      expect(readFileSync(bench.layout.custody, 'utf8')).toMatch(
        /"sequence":1,"why":"hmac-[^}]*},"event":"sequence-uncounted"/,
      );
    } finally {
      await other.stop();
    }
  });
});
