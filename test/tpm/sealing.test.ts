import { randomFillSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { SecretArena, type SecretBuffer } from '../../src/host/arena.ts';
import { requireChild, runChild } from '../../src/host/child.ts';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import type { ObjectBlob, TpmObject } from '../../src/tpm/object.ts';
import { sealedData, signingKey, storageRootKey } from '../../src/tpm/templates.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';
import { copiesOutside, masked, unmasked } from './memory.ts';

const srkHandle = 0x81000001;
const sealedHandle = 0x81000002;
const secretIndex = 0x01800007;
const pcrs = [0, 7, 14];

describe.each(['swtpm', 'pcap'] as const)('sealing, over %s', (way) => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-seal-'));
  const arena = SecretArena.allocate({ allowSwappable: true });
  const captures: string[] = [];
  const needles: Uint8Array[] = [];
  let swtpm: Swtpm;
  beforeAll(async () => {
    swtpm = await startSwtpm(directory);
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    await using root = await tpm.createPrimary('owner', storageRootKey);
    await tpm.persist(root, 'owner', srkHandle);
  });
  afterAll(async () => {
    delete process.env.TCTI_PCAP_FILE;
    await swtpm?.stop();
    arena[Symbol.dispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Over pcap each opening has a capture of its own. */
  function openOver(): Promise<Tpm> {
    if (way === 'swtpm') return openTpm({ tcti: swtpm.tcti });
    process.env.TCTI_PCAP_FILE = join(directory, `${captures.length}.pcap`);
    captures.push(process.env.TCTI_PCAP_FILE);
    return openTpm({ tcti: `pcap:${swtpm.tcti}` });
  }

  /** Searched for in the captures at the end. */
  function freshSecret(): SecretBuffer {
    const secret = arena.take(32, 'secret under test');
    randomFillSync(secret.bytes);
    needles.push(masked(secret));
    return secret;
  }

  async function seal(tpm: Tpm, root: TpmObject, secret: SecretBuffer): Promise<ObjectBlob> {
    await using trial = await tpm.startPolicySession(root, 'trial');
    await trial.policyPcr(pcrs);
    return await tpm.create(root, sealedData(await trial.digest()), secret);
  }

  async function unseal(
    tpm: Tpm,
    root: TpmObject,
    blob: ObjectBlob,
    into: SecretArena = arena,
  ): Promise<SecretBuffer> {
    await using object = await tpm.load(root, blob);
    await using policy = await tpm.startPolicySession(root, 'policy');
    await policy.policyPcr(pcrs);
    return await tpm.unseal(object, policy, into, 'unsealed');
  }

  it('gives back what was sealed, into the arena, while the PCRs are as they were', async () => {
    await using tpm = await openOver();
    await using root = await tpm.at(srkHandle);
    using secret = freshSecret();
    using unsealed = await unseal(tpm, root, await seal(tpm, root, secret));
    expect(Buffer.compare(unsealed.bytes, secret.bytes)).toBe(0);
    expect(unsealed.label).toBe('unsealed');
  });

  it('accepts either branch of a PolicyOR and refuses a third', async () => {
    await using tpm = await openOver();
    await using root = await tpm.at(srkHandle);
    const digestOf = async (selection: number[]) => {
      await using trial = await tpm.startPolicySession(root, 'trial');
      await trial.policyPcr(selection);
      return await trial.digest();
    };
    const branches = [await digestOf([0]), await digestOf([7])];
    await using policy = await tpm.startPolicySession(root, 'policy');
    await policy.policyPcr([7]);
    await policy.policyOr(branches);
    expect(await policy.digest()).toHaveLength(32);
    await using other = await tpm.startPolicySession(root, 'policy');
    await other.policyPcr([14]);
    await expect(other.policyOr(branches)).rejects.toMatchObject({ code: 'tpm-refused' });
  });

  it('leaves no copy of the secret in the memory of the process outside the arena', async () => {
    await using tpm = await openOver();
    await using root = await tpm.at(srkHandle);
    using secret = freshSecret();
    const needle = masked(secret);
    const control = new Uint8Array(4096); // Large enough not to be moved, which would leave copies of it behind.
    control.set(secret.bytes);
    expect(copiesOutside(arena, needle), 'the search finds a copy that is there').toBeGreaterThan(0);
    control.fill(0);
    const blob = await seal(tpm, root, secret);
    expect(copiesOutside(arena, needle)).toBe(0);
    for (let times = 0; times < 2; times++) {
      using unsealed = await unseal(tpm, root, blob);
      expect(Buffer.compare(unsealed.bytes, secret.bytes)).toBe(0);
      expect(copiesOutside(arena, needle)).toBe(0);
    }
  });

  it('leaves none where the TPM refuses to seal it or to keep it', async () => {
    await using tpm = await openOver();
    await using root = await tpm.at(srkHandle);
    using secret = freshSecret();
    const needle = masked(secret);
    // A key is drawn by the TPM: with data of the caller's it is refused.
    await expect(tpm.create(root, signingKey, secret)).rejects.toMatchObject({ layer: 'tpm' });
    expect(copiesOutside(arena, needle)).toBe(0);
    await tpm.nvDefine(secretIndex, { attributes: 'ordinary', byteLength: 8 });
    await expect(tpm.nvWriteSecret(root, secretIndex, secret)).rejects.toMatchObject({ layer: 'tpm' });
    await tpm.nvUndefine(secretIndex);
    expect(copiesOutside(arena, needle)).toBe(0);
  });

  it('leaves none where the arena is zeroized before the answer comes, or while it is taken over', async () => {
    await using tpm = await openOver();
    await using root = await tpm.at(srkHandle);
    using secret = freshSecret();
    const needle = masked(secret);
    const blob = await seal(tpm, root, secret);
    await tpm.nvDefine(secretIndex, { attributes: 'ordinary', byteLength: secret.byteLength });
    await tpm.nvWriteSecret(root, secretIndex, secret);
    const readNv = async (into: SecretArena): Promise<SecretBuffer> => {
      await using session = await tpm.startPolicySession(root, 'policy');
      return await tpm.nvReadSecret(secretIndex, secret.byteLength, session, into, 'too late');
    };
    for (const read of [readNv, (into: SecretArena) => unseal(tpm, root, blob, into)]) {
      using before = SecretArena.allocate({ allowSwappable: true });
      before.wipe();
      await expect(read(before)).rejects.toMatchObject({ code: 'zeroized' });
      using meanwhile = SecretArena.allocate({ allowSwappable: true });
      const take = meanwhile.take.bind(meanwhile);
      vi.spyOn(meanwhile, 'take').mockImplementation((byteLength, label) => {
        const slice = take(byteLength, label);
        meanwhile.wipe();
        return slice;
      });
      await expect(read(meanwhile)).rejects.toMatchObject({ code: 'zeroized' });
      expect(copiesOutside(arena, needle)).toBe(0);
    }
    await tpm.nvUndefine(secretIndex);
  });

  it('ends its session when it unseals, and leaves none behind when the TPM refuses', async () => {
    await using tpm = await openOver();
    await using root = await tpm.at(srkHandle);
    using secret = freshSecret();
    const blob = await seal(tpm, root, secret);
    await using object = await tpm.load(root, blob);
    const loadedSessions = async () =>
      (await requireChild('tpm2_getcap', ['-T', swtpm.tcti, 'handles-loaded-session'])).stdout.toString();
    {
      await using policy = await tpm.startPolicySession(root, 'policy');
      await expect(tpm.unseal(object, policy, arena, 'refused')).rejects.toMatchObject({
        code: 'tpm-policy',
      });
      expect(await loadedSessions()).toContain('0x300000');
      await policy.policyPcr(pcrs);
      using unsealed = await tpm.unseal(object, policy, arena, 'unsealed');
      expect(Buffer.compare(unsealed.bytes, secret.bytes)).toBe(0);
      expect(await loadedSessions()).toBe('');
      await expect(policy.policyPcr(pcrs)).rejects.toMatchObject({ layer: 'tpm' });
    }
    {
      await using refused = await tpm.startPolicySession(root, 'policy');
      await expect(tpm.unseal(object, refused, arena, 'refused')).rejects.toMatchObject({
        code: 'tpm-policy',
      });
    }
    expect(await loadedSessions()).toBe('');
  });

  it('refuses a blob that was changed', async () => {
    await using tpm = await openOver();
    await using root = await tpm.at(srkHandle);
    using secret = freshSecret();
    const blob = await seal(tpm, root, secret);
    const changed = Uint8Array.from(blob.private);
    changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
    await expect(tpm.load(root, { ...blob, private: changed })).rejects.toMatchObject({
      code: 'tpm-foreign-blob',
    });
  });

  it('refuses more than 128 bytes', async () => {
    await using tpm = await openOver();
    await using root = await tpm.at(srkHandle);
    using secret = arena.take(129, 'too long');
    await expect(tpm.create(root, sealedData(new Uint8Array(32)), secret)).rejects.toThrow('128 bytes');
  });

  it('refuses for good once the cap PCR has been extended', async () => {
    await using tpm = await openOver();
    await using root = await tpm.at(srkHandle);
    using secret = freshSecret();
    const blob = await seal(tpm, root, secret);
    await tpm.pcrExtend(14, { sha256: new Uint8Array(32).fill(0xca) });
    await expect(unseal(tpm, root, blob)).rejects.toMatchObject({ code: 'tpm-policy', layer: 'tpm' });
  });

  it('opens again after a TPM reset, which returns the cap PCR to zero', async () => {
    await using before = await openOver();
    await using root = await before.at(srkHandle);
    const capped = (await before.pcrRead('sha256', [14])).get(14);
    expect(Buffer.from(capped ?? []).equals(Buffer.alloc(32))).toBe(false);
    expect(root.name).toHaveLength(34);
    await before.close();
    await swtpm.restart();
    await using after = await openOver();
    expect(Buffer.from((await after.pcrRead('sha256', [14])).get(14) ?? [])).toEqual(Buffer.alloc(32));
  });

  if (way === 'swtpm') return;

  it('has shown no secret on the bus; tpm2_unseal without an encrypted session does', async () => {
    using secret = freshSecret();
    {
      await using tpm = await openOver();
      await using root = await tpm.at(srkHandle);
      await using object = await tpm.load(root, await seal(tpm, root, secret));
      await tpm.persist(object, 'owner', sealedHandle);
    }
    const ours = Buffer.concat(captures.map((path) => readFileSync(path)));
    const theirs = join(directory, 'theirs.pcap');
    const { status } = await runChild(
      'tpm2_unseal',
      ['-T', `pcap:${swtpm.tcti}`, '-c', `0x${sealedHandle.toString(16)}`, '-p', 'pcr:sha256:0,7,14'],
      { env: { ...process.env, TCTI_PCAP_FILE: theirs } },
    );
    expect(status).toBe(0);
    expect(captures.length).toBeGreaterThan(8);
    expect(ours.length).toBeGreaterThan(10_000);
    expect(needles.length).toBeGreaterThan(6);
    expect(needles.filter((needle) => ours.indexOf(unmasked(needle)) !== -1)).toEqual([]);
    expect(readFileSync(theirs).indexOf(secret.bytes)).toBeGreaterThan(0);
  });
});
