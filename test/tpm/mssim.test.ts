// A TPM behind a module of tpm2-tss that this program has no way of its own for: the Microsoft simulator's protocol.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTpm } from '../../src/tpm/context.ts';
import { marshalPcrExtend, RawTransport } from '../../src/tpm/raw.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

describe('a TPM behind mssim', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-mssim-'));
  let swtpm: Swtpm;
  let worker: Worker;
  let tcti: string;
  beforeAll(async () => {
    swtpm = await startSwtpm(directory);
    const workerData = { swtpm: swtpm.tcti.replace('swtpm:path=', '') };
    worker = new Worker(new URL('./mssim-server.ts', import.meta.url), { workerData });
    const [port] = await once(worker, 'message');
    tcti = `mssim:host=127.0.0.1,port=${port}`;
  });
  afterAll(async () => {
    await worker?.terminate();
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('answers commands, and tells that it is a simulator', async () => {
    await using tpm = await openTpm({ tcti });
    expect(await tpm.getRandom(40)).toHaveLength(40);
    expect(await tpm.properties()).toMatchObject({ simulator: true });
  });

  it('answers the interlock’s commands', async () => {
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    const before = (await tpm.pcrRead('sha256', [14])).get(14);
    using raw = new RawTransport({ tcti });
    expect(raw.transmit(marshalPcrExtend(14, new Uint8Array(32).fill(1)), new Uint8Array(4096), 5000)).toBe(
      0,
    );
    expect((await tpm.pcrRead('sha256', [14])).get(14)).not.toEqual(before);
  });

  it('that hangs holds the interlock’s commands no longer than the time limit, and takes the next when it goes on', async () => {
    using raw = new RawTransport({ tcti });
    const command = marshalPcrExtend(14, new Uint8Array(32));
    // The child that stops or goes on is told to this process by SIGCHLD, by which tpm2-tss would let its wait be broken off.
    process.kill(swtpm.pid, 'SIGSTOP');
    await sleep(100);
    try {
      for (let times = 0; times < 2; times++) {
        expect(() => raw.transmit(command, new Uint8Array(4096), 200)).toThrow(
          expect.objectContaining({ code: 'tpm-timeout' }),
        );
      }
    } finally {
      process.kill(swtpm.pid, 'SIGCONT');
    }
    await sleep(100);
    expect(raw.transmit(command, new Uint8Array(4096), 5000)).toBe(0);
  });
});
