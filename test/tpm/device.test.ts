// A TPM behind a character device, as the kernel gives it to programs.
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SecretArena } from '../../src/host/arena.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { marshalPcrExtend, RawTransport } from '../../src/tpm/raw.ts';
import { sealedData, storageRootKey } from '../../src/tpm/templates.ts';
import { startTpmDevice, type TpmDevice } from '../lab/tpm-device.ts';

describe('a TPM behind a character device', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-device-'));
  const arena = SecretArena.allocate({ allowSwappable: true });
  let device: TpmDevice;
  beforeAll(async () => {
    device = await startTpmDevice(directory);
  });
  afterAll(async () => {
    await device?.[Symbol.asyncDispose]();
    arena[Symbol.dispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  it('seals and unseals', async () => {
    await using tpm = await openTpm({ tcti: device.tcti });
    await using root = await tpm.createPrimary('owner', storageRootKey);
    using secret = arena.take(32, 'secret');
    randomFillSync(secret.bytes);
    await using trial = await tpm.startPolicySession(root, 'trial');
    await trial.policyPcr([14]);
    const blob = await tpm.create(root, sealedData(await trial.digest()), secret);
    await using object = await tpm.load(root, blob);
    await using policy = await tpm.startPolicySession(root, 'policy');
    await policy.policyPcr([14]);
    using unsealed = await tpm.unseal(object, policy, arena, 'unsealed');
    expect(Buffer.compare(unsealed.bytes, secret.bytes)).toBe(0);
  });

  it('answers the longest commands in full', async () => {
    await using tpm = await openTpm({ tcti: device.tcti });
    expect((await tpm.pcrRead('sha256', [...Array(24).keys()])).size).toBe(24);
    expect(await tpm.getRandom(200)).toHaveLength(200);
  });

  it('takes the interlock’s commands', async () => {
    {
      using raw = new RawTransport({ tcti: device.tcti });
      expect(raw.transmit(marshalPcrExtend(14, new Uint8Array(32).fill(1)), new Uint8Array(4096), 5000)).toBe(
        0,
      );
    }
    await using tpm = await openTpm({ tcti: device.tcti });
    expect(Buffer.from((await tpm.pcrRead('sha256', [14])).get(14) ?? [])).not.toEqual(Buffer.alloc(32));
  });

  it('that hangs costs no more than the time limit, and its late answer is not taken for the next', async () => {
    using raw = new RawTransport({ tcti: device.tcti });
    const command = marshalPcrExtend(14, new Uint8Array(32));
    process.kill(device.pid, 'SIGSTOP');
    try {
      expect(() => raw.transmit(command, new Uint8Array(4096), 200)).toThrow(
        expect.objectContaining({ code: 'tpm-timeout' }),
      );
    } finally {
      process.kill(device.pid, 'SIGCONT');
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(raw.transmit(command, new Uint8Array(4096), 5000)).toBe(0);
    await using tpm = await openTpm({ tcti: device.tcti });
    expect(await tpm.getRandom(16)).toHaveLength(16);
  });
});
