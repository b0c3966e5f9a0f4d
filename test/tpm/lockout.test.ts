import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requireChild, runChild } from '../../src/host/child.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { marshalNvUndefine, RawTransport } from '../../src/tpm/raw.ts';
import { signingKey, storageRootKey } from '../../src/tpm/templates.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const guarded = '0x01800100';
const digest = new Uint8Array(32);

describe('a TPM that is short of something', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-lockout-'));
  let swtpm: Swtpm;
  beforeAll(async () => {
    swtpm = await startSwtpm(directory);
  });
  afterAll(async () => {
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const tool = (name: string, ...args: string[]) => requireChild(`tpm2_${name}`, ['-T', swtpm.tcti, ...args]);

  it('says that it is in lockout, spares objects that count no tries, and comes back by a reset', async () => {
    await tool('nvdefine', guarded, '-C', 'o', '-s', '8', '-a', 'authread|authwrite', '-p', 'right');
    await tool(
      'createprimary',
      '-C',
      'o',
      '-G',
      'ecc:ecdsa',
      '-a',
      'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign',
      '-c',
      join(directory, 'counting.ctx'),
    );
    await tool('evictcontrol', '-C', 'o', '-c', join(directory, 'counting.ctx'), '0x81000020');
    {
      await using tpm = await openTpm({ tcti: swtpm.tcti });
      await tpm.flushAbandoned();
      await tpm.setLockoutParameters({ maxTries: 2, recoverySeconds: 1000, lockoutRecoverySeconds: 1000 });
      const { lockout, authorizationSet } = await tpm.properties();
      expect(lockout).toEqual({ counter: 0, max: 2, interval: 1000, recovery: 1000, inLockout: false });
      expect(authorizationSet).toEqual({ owner: false, endorsement: false, lockout: false });
    }
    for (let wrong = 0; wrong < 2; wrong++) {
      const { status } = await runChild('tpm2_nvwrite', [
        '-T',
        swtpm.tcti,
        guarded,
        '-C',
        guarded,
        '-P',
        'wrong',
        '-i',
        '/etc/hostname',
      ]);
      expect(status).not.toBe(0);
    }
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    expect((await tpm.properties()).lockout).toMatchObject({ inLockout: true });
    await using counting = await tpm.at(0x81000020);
    await expect(tpm.sign(counting, digest)).rejects.toMatchObject({
      code: 'tpm-lockout',
      rc: 0x921,
      remedy: expect.stringContaining('Do not retry'),
    });
    await using root = await tpm.createPrimary('owner', storageRootKey);
    await using key = await tpm.load(root, await tpm.create(root, signingKey));
    expect((await tpm.sign(key, digest)).length).toBeGreaterThan(60);
    await tpm.resetLockout();
    expect((await tpm.properties()).lockout).toMatchObject({ inLockout: false, counter: 0 });
    expect((await tpm.sign(counting, digest)).length).toBeGreaterThan(60);
  });

  it('says that an authorization has been set where this program expects none', async () => {
    await tool('changeauth', '-c', 'lockout', 'secret');
    {
      await using tpm = await openTpm({ tcti: swtpm.tcti });
      expect((await tpm.properties()).authorizationSet.lockout).toBe(true);
      await expect(tpm.resetLockout()).rejects.toMatchObject({ code: 'tpm-authorization' });
    }
  });

  it('says that it has no room for another NV index, and takes none that is too large', async () => {
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    const define = (index: number, byteLength = 2048) =>
      tpm.nvDefine(index, { attributes: 'ordinary', byteLength });
    const fill = async () => {
      for (let index = 0x01800200; index < 0x01800400; index++) await define(index);
    };
    await expect(fill()).rejects.toMatchObject({
      code: 'tpm-nv-full',
      remedy: expect.stringContaining('Undefine NV indices'),
    });
    await expect(define(0x01800500, 60_000)).rejects.toMatchObject({ layer: 'tpm' });
    for (const index of await tpm.nvIndices()) if (index >= 0x01800200) await tpm.nvUndefine(index);
    await define(0x01800200);
  });

  it('says that it has no room for another object', async () => {
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    await using stack = new AsyncDisposableStack();
    const fill = async () => {
      for (let count = 0; count < 8; count++) stack.use(await tpm.createPrimary('owner', storageRootKey));
    };
    await expect(fill()).rejects.toMatchObject({ code: 'tpm-memory' });
  });

  it('gives an NV index back to a command that was marshalled beforehand', async () => {
    {
      await using tpm = await openTpm({ tcti: swtpm.tcti });
      await tpm.nvDefine(0x01800700, {
        attributes: 'ordinary',
        byteLength: 32,
        access: ['ownerRead', 'ownerWrite', 'noDA'],
      });
      expect(await tpm.nvPublic(0x01800700)).toMatchObject({
        kind: 'ordinary',
        attributes: ['ownerWrite', 'ownerRead', 'noDA'],
      });
    }
    const response = new Uint8Array(64);
    {
      using raw = new RawTransport({ tcti: swtpm.tcti });
      expect(raw.transmit(marshalNvUndefine(0x01800700), response, 1000)).toBe(0);
      expect(raw.transmit(marshalNvUndefine(0x01800700), response, 1000)).not.toBe(0);
    }
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    await expect(tpm.nvPublic(0x01800700)).rejects.toMatchObject({ code: 'tpm-no-object' });
  });
});
