import { createHash, verify } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import { parseAttest, publicKeyPem, signatureDer } from '../../src/tpm/structures.ts';
import { attestationKey } from '../../src/tpm/templates.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const counter = 0x01800001;
const ordinary = 0x01800002;
const extend = 0x01800003;

describe('NV indices', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-nv-'));
  let swtpm: Swtpm;
  let tpm: Tpm;
  beforeAll(async () => {
    swtpm = await startSwtpm(directory);
    tpm = await openTpm({ tcti: swtpm.tcti });
  });
  afterAll(async () => {
    await tpm?.close();
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('count up, and never go back although the counter is undefined and defined again', async () => {
    await tpm.nvDefine(counter, { attributes: 'counter', byteLength: 8 });
    expect(await tpm.nvIndices()).toEqual([counter]);
    await expect(tpm.nvReadCounter(counter)).rejects.toMatchObject({ code: 'tpm-nv-unwritten' });
    await tpm.nvIncrement(counter);
    await tpm.nvIncrement(counter);
    const before = await tpm.nvReadCounter(counter);
    await tpm.nvUndefine(counter);
    await tpm.nvDefine(counter, { attributes: 'counter', byteLength: 8 });
    await tpm.nvIncrement(counter);
    expect(await tpm.nvReadCounter(counter)).toBeGreaterThan(before);
  });

  it('say when an index is already there', async () => {
    await expect(tpm.nvDefine(counter, { attributes: 'counter', byteLength: 8 })).rejects.toMatchObject({
      code: 'tpm-nv-defined',
    });
  });

  it('keep data longer than one command carries', async () => {
    const data = Uint8Array.from({ length: 1200 }, (_, index) => index & 0xff);
    await tpm.nvDefine(ordinary, { attributes: 'ordinary', byteLength: data.byteLength });
    await tpm.nvWrite(ordinary, data);
    expect(await tpm.nvRead(ordinary)).toEqual(data);
    expect(await tpm.nvRead(ordinary, 5)).toEqual(data.subarray(0, 5));
    await tpm.nvUndefine(ordinary);
    await expect(tpm.nvRead(ordinary)).rejects.toMatchObject({ code: 'tpm-no-object' });
  });

  it('extend a digest', async () => {
    await tpm.nvDefine(extend, { attributes: 'extend', byteLength: 32 });
    await tpm.nvExtend(extend, Buffer.from('first'));
    const expected = createHash('sha256').update(Buffer.alloc(32)).update('first').digest();
    expect(Buffer.from(await tpm.nvRead(extend))).toEqual(expected);
  });

  it('are certified with their content', async () => {
    await using ak = await tpm.createPrimary('endorsement', attestationKey);
    const { attest, signature } = await tpm.nvCertify(counter, ak, Buffer.from('certificate'));
    expect(verify('sha256', attest, publicKeyPem(ak.public), signatureDer(signature))).toBe(true);
    const value = Buffer.from(parseAttest(attest).nv?.contents ?? []).readBigUInt64BE();
    expect(value).toBe(await tpm.nvReadCounter(counter));
  });
});
