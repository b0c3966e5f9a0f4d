// What was broken off, and what the world did until the command was repeated: others took the place that was planned, or the
// operator went on with another command.
import { cpSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { configSchema } from '../../src/appliance/config-schema.ts';
import { deprovision } from '../../src/appliance/deprovision.ts';
import { provision } from '../../src/appliance/provision.ts';
import { requireChild } from '../../src/host/child.ts';
import { parsePublic } from '../../src/tpm/structures.ts';
import { signingKey } from '../../src/tpm/templates.ts';
import { startSwtpm } from '../lab/swtpm.ts';
import { Bench, type Holdings, heldIn, owned } from './power.ts';

const command = { evictControl: 0x120, nvUndefine: 0x122, nvDefine: 0x12a, nvWrite: 0x137 } as const;
const srk = 0x81000001;
const ak = 0x81010020;
const firstIndex = 0x01810020;
const ordinary = { attributes: 'ordinary', byteLength: 32 } as const;

describe('what was broken off', () => {
  let bench: Bench;
  let found: Holdings;
  let provisioning: number[];
  beforeAll(async () => {
    bench = await Bench.start();
    await bench.save('found');
    found = await bench.holdings();
    provisioning = await bench.commandsOf(() => bench.provision());
    await bench.save('provisioned');
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await bench.load('found');
  });

  /** The number of the Nth command of that kind. */
  const nth = (codes: readonly number[], code: number, which: number): number =>
    codes.flatMap((found, at) => (found === code ? [at + 1] : [])).at(which) ?? 0;

  const tool = (name: string, ...args: string[]) =>
    requireChild(`tpm2_${name}`, ['-T', bench.swtpm.tcti, ...args], { cwd: bench.directory });
  /** A storage key by the default template of tpm2-tools, persisted by somebody else. */
  const persistTheirs = async (handle: number) => {
    await tool('createprimary', '-C', 'o', '-c', 'theirs.ctx');
    await tool('evictcontrol', '-C', 'o', '-c', 'theirs.ctx', `0x${handle.toString(16)}`);
    await tool('flushcontext', '-t');
  };

  it('does not take for its own, or give back, a storage root key that others made meanwhile', async () => {
    await bench.cut(nth(provisioning, command.evictControl, 0), 'before', () => bench.provision());
    await persistTheirs(srk);
    const theirs = await bench.holdings();
    await bench.save('overtaken');
    expect((await bench.giveBack()).removed.map(({ what }) => what)).toEqual(['srk']);
    expect(await bench.holdings()).toEqual(theirs);
    await bench.load('overtaken');
    const made = await bench.provision();
    expect(made.tpm?.srk).toMatchObject({ adopted: true, name: Object.values(theirs.objects)[0] });
    expect(heldIn(await bench.holdings())).toEqual(owned(made));
    expect(Object.keys(await bench.openKeys())).toHaveLength(2);
    await bench.giveBack();
    expect(await bench.holdings()).toEqual(theirs);
  });

  it('passes by a handle and an index that others took meanwhile', async () => {
    await bench.cut(nth(provisioning, command.evictControl, 1), 'before', () => bench.provision());
    await persistTheirs(ak);
    const [theirAk] = Object.entries((await bench.holdings()).objects).filter(([at]) => Number(at) === ak);
    await bench.cut(nth(provisioning, command.nvDefine, 0) + 2, 'before', () => bench.provision());
    {
      await using tpm = await bench.open();
      const taken = await tpm.nvIndices();
      await tpm.nvDefine(firstIndex + taken.length, ordinary); // Where the next is planned to go.
    }
    const made = await bench.provision();
    expect(made.owns.find(({ what }) => what === 'ak')?.handle).toBe('0x81010021');
    const held = await bench.holdings();
    expect(Object.entries(held.objects)).toContainEqual(theirAk);
    expect(heldIn(held)).toHaveLength(owned(made).length + 2);
    expect(Object.keys(await bench.openKeys())).toHaveLength(2);
    await bench.giveBack();
    expect(heldIn(await bench.holdings())).toHaveLength(2);
  });

  it('leaves to others, when it is repeated, what deprovision had given back before it was broken off', async () => {
    await bench.load('provisioned');
    const codes = await bench.commandsOf(() => bench.giveBack());
    await bench.load('provisioned');
    await bench.cut(nth(codes, command.evictControl, 1), 'after', () => bench.giveBack());
    expect(heldIn(await bench.holdings())).toEqual([]);
    await persistTheirs(ak);
    {
      await using tpm = await bench.open();
      for (const index of [0, 3]) await tpm.nvDefine(firstIndex + index, ordinary);
    }
    const theirs = await bench.holdings();
    await bench.giveBack();
    expect(await bench.holdings()).toEqual({ ...theirs, lockout: found.lockout });
  });

  it('is given up whole while a share was being written, and keys sealed before stay known', async () => {
    await bench.cut(nth(provisioning, command.nvWrite, 1), 'after', () => bench.provision());
    const begun = await bench.holdings();
    expect(Object.keys(begun.indices)).toHaveLength(5);
    const told = deprovision(bench.config(), { confirmed: false, keepStorageRoot: false });
    await expect(told).rejects.toMatchObject({
      code: 'not-confirmed',
      message: expect.stringMatching(/share:wireguard at 0x01810023, share:drbg-seed at 0x01810024/),
    });
    expect(await bench.holdings()).toEqual(begun);
    await bench.giveBack();
    expect(await bench.holdings()).toEqual(found);
  });

  it('in provision is not forgotten by a --recover in between', async () => {
    await bench.cut(nth(provisioning, command.nvWrite, 1), 'after', () => bench.provision());
    bench.replaceSigner();
    await bench.reseal();
    const made = await bench.provision();
    expect(heldIn(await bench.holdings())).toEqual(owned(made));
    expect(Object.keys(await bench.openKeys())).toHaveLength(2);
    expect((await bench.provision()).changed).toEqual([]);
  });

  it('in --recover is not forgotten by a provision in between', async () => {
    await bench.load('provisioned');
    const before = await bench.holdings();
    const keys = await bench.openKeys();
    const signer = join(bench.layout.development, 'signer.pem');
    cpSync(signer, join(bench.directory, 'former.pem'));
    bench.replaceSigner();
    cpSync(signer, join(bench.directory, 'successor.pem'));
    const codes = await bench.commandsOf(() => bench.reseal());
    const back = async (which: number) => {
      await bench.load('provisioned');
      cpSync(join(bench.directory, 'successor.pem'), signer);
      await bench.cut(nth(codes, command.nvWrite, which), 'after', () => bench.reseal());
      await expect(bench.provision()).rejects.toMatchObject({ code: 'authorities-changed' });
      cpSync(join(bench.directory, 'former.pem'), signer);
    };
    // No key is sealed anew yet: the operator may think better of it.
    await back(0);
    expect(Object.keys((await bench.holdings()).indices)).toHaveLength(6);
    expect((await bench.provision()).changed).toEqual([]);
    expect(await bench.holdings()).toEqual(before);
    expect(existsSync(bench.layout.provisioning)).toBe(false);
    // One is: both ways lead on, and neither leaves a key behind.
    await back(1);
    await expect(bench.provision()).rejects.toMatchObject({ code: 'authorities-changed' });
    await bench.reseal();
    expect(heldIn(await bench.holdings())).toEqual(owned(await bench.provision()));
    expect(await bench.openKeys()).toEqual(keys);
  });

  it('in --rotate is given back by the rotation of another key: no share of a former key stays', async () => {
    const config = configSchema.parse({
      ...bench.config(),
      keys: [{ name: 'second', purpose: 'wireguard' }],
    });
    const rotate = (...names: string[]) => provision(config, { rotate: names });
    await provision(config);
    await bench.save('two links');
    const codes = await bench.commandsOf(() => rotate('wireguard'));
    // Before the key is sealed anew; and after, with the former share still there.
    for (const at of [nth(codes, command.nvWrite, 0), nth(codes, command.nvUndefine, -1)]) {
      await bench.load('two links');
      await bench.cut(at, at === nth(codes, command.nvWrite, 0) ? 'after' : 'before', () =>
        rotate('wireguard'),
      );
      const made = await rotate('second');
      expect(heldIn(await bench.holdings())).toEqual(owned(made));
      expect(Object.keys(await bench.openKeys())).toHaveLength(3);
      expect((await provision(config)).changed).toEqual([]);
    }
  });

  it('may be given up once the TPM was cleared, and never on another TPM', async () => {
    await bench.load('provisioned');
    const other = await startSwtpm(join(bench.directory, 'other'));
    try {
      const elsewhere = deprovision(bench.config({ tcti: other.tcti }), {
        confirmed: true,
        keepStorageRoot: false,
      });
      await expect(elsewhere).rejects.toMatchObject({ code: 'tpm-swapped' });
    } finally {
      await other.stop();
      rmSync(other.directory, { recursive: true });
    }
    await tool('clear', '-c', 'lockout');
    await expect(bench.provision()).rejects.toMatchObject({
      code: 'tpm-swapped',
      remedy: expect.stringContaining('`esoteric-appliance deprovision`'),
    });
    await bench.giveBack();
    expect(heldIn(await bench.holdings())).toEqual([]);
    const anew = await bench.provision();
    expect(heldIn(await bench.holdings())).toEqual(owned(anew));
  });

  it('adopts no key that sessions cannot be salted to or that wants more than a password', async () => {
    {
      await using tpm = await bench.open();
      await using root = await tpm.createPrimary('owner', signingKey);
      await tpm.persist(root, 'owner', srk);
    }
    await expect(bench.provision()).rejects.toMatchObject({ code: 'srk-unsuitable' });
    {
      await using tpm = await bench.open();
      await tpm.unpersist(srk, 'owner');
      await using endorsement = await tpm.endorsementKey('ecc');
      expect(parsePublic(endorsement.public)).toMatchObject({ restricted: true, decrypt: true });
      await tpm.persist(endorsement, 'endorsement', srk);
    }
    await expect(bench.provision()).rejects.toMatchObject({ code: 'srk-unsuitable' });
  });
});
