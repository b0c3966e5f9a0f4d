import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import { loadTssFrom } from '../../src/tpm/library.ts';
import { nameOf } from '../../src/tpm/structures.ts';
import { signingKey, storageRootKey } from '../../src/tpm/templates.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const srkHandle = 0x81000001;
const zeros = Buffer.alloc(32);

describe('a TPM reached through tpm2-tss', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-tpm-'));
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

  it('says who made it, that it is a simulator, and that it is not locked out', async () => {
    const properties = await tpm.properties();
    expect(properties).toMatchObject({ manufacturer: 'IBM', vendor: 'SW   TPM', simulator: true });
    expect(properties.firmware).toMatch(/^\d+\.\d+$/);
    expect(properties.lockout).toMatchObject({ counter: 0, inLockout: false });
    expect(properties.lockout.max).toBeGreaterThan(0);
    expect(properties.resetCount).toBeGreaterThan(0);
  });

  it('creates the same storage root key every time, persists it, and adopts it by its Name', async () => {
    const first = await tpm.createPrimary('owner', storageRootKey);
    const again = await tpm.createPrimary('owner', storageRootKey);
    expect(again.name).toEqual(first.name);
    expect(Buffer.from(first.name)).toEqual(nameOf(first.public));
    await tpm.persist(first, 'owner', srkHandle);
    await first[Symbol.asyncDispose]();
    await again[Symbol.asyncDispose]();
    await again[Symbol.asyncDispose](); // safe to repeat
    expect(await tpm.persistentHandles()).toEqual([srkHandle]);
    const adopted = await tpm.readPublic(srkHandle);
    expect(adopted.name).toEqual(first.name);
    expect(adopted.public).toEqual(first.public);
  });

  it('keeps an object for one who holds it when another lets go of it, and an index for all who read it at once', async () => {
    const held = await tpm.at(srkHandle);
    await (await tpm.at(srkHandle))[Symbol.asyncDispose]();
    await using session = await tpm.startPolicySession(held, 'policy');
    expect(await session.digest()).toHaveLength(32);
    await held[Symbol.asyncDispose]();
    const index = 0x01800011;
    await tpm.nvDefine(index, { attributes: 'counter', byteLength: 8 });
    await tpm.nvIncrement(index);
    const first = await tpm.nvReadCounter(index);
    const reads = await Promise.all(Array.from({ length: 8 }, () => tpm.nvReadCounter(index)));
    expect(new Set(reads)).toEqual(new Set([first]));
    await tpm.nvUndefine(index);
    await tpm.nvDefine(index, { attributes: 'counter', byteLength: 8 });
    await tpm.nvUndefine(index);
  });

  it('says plainly when nothing is at a handle', async () => {
    await expect(tpm.at(0x81000fff)).rejects.toMatchObject({ code: 'tpm-no-object' });
  });

  it('gives a persistent handle back', async () => {
    await using key = await tpm.createPrimary('owner', signingKey);
    await tpm.persist(key, 'owner', 0x81000010);
    expect(await tpm.persistentHandles()).toContain(0x81000010);
    await tpm.unpersist(0x81000010, 'owner');
    expect(await tpm.persistentHandles()).not.toContain(0x81000010);
  });

  it('reads all 24 PCRs although it returns eight at a time', async () => {
    const all = Array.from({ length: 24 }, (_, pcr) => pcr);
    const values = await tpm.pcrRead('sha256', all);
    expect([...values.keys()]).toEqual(all);
    expect(Buffer.from(values.get(0) ?? [])).toEqual(zeros);
    expect((await tpm.pcrRead('sha1', [3])).get(3)?.byteLength).toBe(20);
  });

  it('extends every bank that is given and no other', async () => {
    expect(await tpm.pcrBanks()).toEqual(expect.arrayContaining(['sha1', 'sha256', 'sha384']));
    await tpm.pcrExtend(9, { sha256: new Uint8Array(32).fill(1), sha1: new Uint8Array(20).fill(2) });
    expect(Buffer.from((await tpm.pcrRead('sha256', [9])).get(9) ?? [])).not.toEqual(zeros);
    expect(Buffer.from((await tpm.pcrRead('sha1', [9])).get(9) ?? [])).not.toEqual(Buffer.alloc(20));
    expect(Buffer.from((await tpm.pcrRead('sha384', [9])).get(9) ?? [])).toEqual(Buffer.alloc(48));
  });

  it('refuses a digest of the wrong size and a PCR that does not exist', async () => {
    await expect(tpm.pcrExtend(9, { sha256: new Uint8Array(20) })).rejects.toThrow('32 bytes');
    await expect(tpm.pcrRead('sha256', [24])).rejects.toThrow('no PCR 24');
  });

  it('draws as many random bytes as asked for', async () => {
    const into = new Uint8Array(100);
    expect(await tpm.getRandom(100, into)).toBe(into);
    expect(into.subarray(64)).not.toEqual(new Uint8Array(36));
    expect(await tpm.getRandom(8)).toHaveLength(8);
  });

  it('keeps order and answers when many commands are asked for at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, index) => tpm.getRandom((index % 32) + 1)),
    );
    expect(answers.map((bytes) => bytes.byteLength)).toEqual(
      Array.from({ length: 40 }, (_, index) => (index % 32) + 1),
    );
  });

  it('leaves no object or session behind in the TPM', async () => {
    for (let round = 0; round < 10; round++) {
      await using root = await tpm.at(srkHandle);
      const blob = await tpm.create(root, signingKey);
      await using key = await tpm.load(root, blob);
      await using session = await tpm.startPolicySession(root, 'trial');
      await session.policyPcr([0]);
      expect(key.name.byteLength).toBe(34);
    }
  });

  it('refuses commands after it has been closed, and closes twice', async () => {
    const second = await openTpm({ tcti: swtpm.tcti });
    const object = await second.at(srkHandle);
    await second.close();
    await second.close();
    await object[Symbol.asyncDispose]();
    await expect(second.getRandom(1)).rejects.toMatchObject({ code: 'tpm-closed' });
  });
});

describe('a machine without tpm2-tss', () => {
  it('is told which packages to install', () => {
    const missing = { tctildr: 'libno-such.so.0', esys: '', sys: '', mu: '' };
    expect(() => loadTssFrom(missing)).toThrow(
      expect.objectContaining({ code: 'tss-missing', remedy: expect.stringContaining('libtss2-esys') }),
    );
  });
});
