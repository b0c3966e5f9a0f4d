import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { noSessions } from '../../src/tpm/commands.ts';
import { Connection } from '../../src/tpm/connection.ts';
import { openTpm } from '../../src/tpm/context.ts';
import type { RawChannel } from '../../src/tpm/raw.ts';
import { storageRootKey } from '../../src/tpm/templates.ts';
import { openTransport } from '../../src/tpm/transport.ts';
import { Writer } from '../../src/tpm/wire.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const getRandom = new Writer().u16(0x8001).u32(12).u32(0x17b).u16(8).done();
const answer = (rc: number) => new Writer().u16(0x8001).u32(10).u32(rc).done();

describe('a TPM that is not well', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-dead-'));
  let swtpm: Swtpm;
  beforeAll(async () => {
    swtpm = await startSwtpm(directory);
  });
  afterAll(async () => {
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('that hangs is a failure within the time limit, and is usable when it goes on', async () => {
    await using tpm = await openTpm({ tcti: swtpm.tcti, commandTimeoutMilliseconds: 200 });
    process.kill(swtpm.pid, 'SIGSTOP');
    const start = performance.now();
    await expect(tpm.getRandom(8)).rejects.toMatchObject({ code: 'tpm-timeout' });
    await expect(openTpm({ tcti: swtpm.tcti, commandTimeoutMilliseconds: 200 })).rejects.toMatchObject({
      code: 'tpm-unreachable',
    });
    expect(performance.now() - start).toBeLessThan(2000);
    process.kill(swtpm.pid, 'SIGCONT');
    expect(await tpm.getRandom(8)).toHaveLength(8);
  });

  it('has longer than that for what is known to take longer', async () => {
    const connection = await Connection.open(swtpm.tcti, 200);
    try {
      process.kill(swtpm.pid, 'SIGSTOP');
      const inputs = [...noSessions, 8];
      const slow = connection.execute('GetRandom', inputs, () => 'answered', { atLeastMilliseconds: 60_000 });
      const first = await Promise.race([slow, sleep(500, 'waiting')]);
      process.kill(swtpm.pid, 'SIGCONT');
      expect([first, await slow]).toEqual(['waiting', 'answered']);
    } finally {
      process.kill(swtpm.pid, 'SIGCONT');
      await connection.close();
    }
  });

  it('that is killed is a failure at once, and is usable when it is back', async () => {
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    swtpm.kill();
    await expect(Promise.all(Array.from({ length: 3 }, () => tpm.getRandom(32)))).rejects.toMatchObject({
      code: 'tpm-connection-lost',
      remedy: expect.stringContaining('swtpm'),
    });
    await swtpm.restart();
    expect(await tpm.getRandom(8)).toHaveLength(8);
  });

  it('has nothing left to flush, whether it is gone or was reset', async () => {
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    const lost = await tpm.createPrimary('owner', storageRootKey);
    const forgotten = await tpm.createPrimary('owner', storageRootKey);
    const session = await tpm.startPolicySession(forgotten, 'trial');
    await swtpm.stop();
    await lost[Symbol.asyncDispose]();
    await swtpm.restart();
    await session[Symbol.asyncDispose]();
    await forgotten[Symbol.asyncDispose]();
    expect(await tpm.getRandom(8)).toHaveLength(8);
  });

  it('that was never there is reported with a way to get one', async () => {
    const nowhere = [
      `swtpm:path=${directory}/none.sock`,
      'device:/dev/no-tpm',
      'swtpm:host=127.0.0.1,port=1',
    ];
    for (const tcti of [...nowhere, 'no-such-module:']) {
      await expect(openTpm({ tcti })).rejects.toMatchObject({
        code: 'tpm-unreachable',
        remedy: expect.stringContaining('--no-tpm'),
      });
    }
    await expect(openTpm({ tcti: 'foo:bar' })).rejects.toThrow(
      /There is no TCTI "foo"\. Here there are: .*\bswtpm\b/,
    );
    await expect(openTpm({ tcti: 'mssim:host=127.0.0.1,port=1' })).rejects.toThrow('tcti');
    await expect(openTpm({ tcti: `swtpm:path=/${'x'.repeat(120)}` })).rejects.toThrow('at most 107 bytes');
  });

  it('that is a device without a TPM behind it is reported as lost', async () => {
    using transport = openTransport('device:/dev/null');
    expect(() => transport.exchange(getRandom, new Uint8Array(4096), 100)).toThrow(
      expect.objectContaining({ code: 'tpm-connection-lost' }),
    );
  });

  it('that is a device answers the command it was asked, not one that was given up before', () => {
    const fifo = join(directory, 'echo');
    execFileSync('mkfifo', [fifo]);
    const earlier = openSync(fifo, constants.O_RDWR);
    writeSync(earlier, answer(0x922));
    const response = new Uint8Array(4096);
    using transport = openTransport(`device:${fifo}`); // What is written to it is what is read from it.
    const length = transport.exchange(getRandom, response, 1000);
    expect(Buffer.from(response.subarray(0, length))).toEqual(Buffer.from(getRandom));
    closeSync(earlier);
  });

  it('that hangs behind a module of tpm2-tss is a failure within the time limit too', async () => {
    process.env.TCTI_PCAP_FILE = join(directory, 'hang.pcap');
    const transport = openTransport(`pcap:${swtpm.tcti}`);
    process.kill(swtpm.pid, 'SIGSTOP');
    const response = new Uint8Array(4096);
    try {
      await expect(transport.exchangeInBackground(getRandom, response, 100)).rejects.toMatchObject({
        code: 'tpm-timeout',
      });
      await expect(transport.exchangeInBackground(getRandom, response, 100)).rejects.toMatchObject({
        code: 'tpm-timeout',
      });
      expect(() => transport.exchange(getRandom, response, 100)).toThrow('did not answer');
    } finally {
      process.kill(swtpm.pid, 'SIGCONT');
      transport[Symbol.dispose]();
    }
  });
});

describe('a TPM on a TCP port', () => {
  const servers: Server[] = [];
  afterAll(() => {
    for (const server of servers) server.close();
  });

  /** Answers the commands with one response code after another, then with success. */
  async function scripted(...codes: number[]): Promise<{ tcti: string; commands: number[] }> {
    const commands: number[] = [];
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {});
      socket.once('data', (command: Buffer) => {
        commands.push(command.readUInt32BE(6));
        const bytes = answer(codes.shift() ?? 0);
        socket.write(bytes.subarray(0, 4)); // In two parts, as a network may deliver it.
        setTimeout(() => socket.end(bytes.subarray(4)), 5);
      });
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    return { tcti: `swtpm:host=localhost,port=${port}`, commands };
  }

  it('gets the same command again while it asks for a retry, a little later each time', async () => {
    const { tcti, commands } = await scripted(0x922, 0x90a, 0x908, 0x920, 0x101);
    await expect(openTpm({ tcti })).rejects.toMatchObject({
      code: 'tpm-unreachable',
      message: expect.stringContaining('failure mode'),
    });
    expect(commands).toEqual(Array(5).fill(0x17a));
  });

  it('is started when nobody has', async () => {
    const { tcti, commands } = await scripted(0x100, 0);
    await using tpm = await openTpm({ tcti });
    expect(commands).toEqual([0x17a, 0x144]);
    expect(tpm.rawChannel()).toEqual({ tcti });
  });

  it("fails with the TPM's own words when it stays busy", async () => {
    const { tcti } = await scripted(...Array<number>(50).fill(0x922));
    await expect(openTpm({ tcti, commandTimeoutMilliseconds: 300 })).rejects.toMatchObject({
      cause: expect.objectContaining({ code: 'tpm-busy' }),
    });
  });

  it('gets it again past ESYS too, in one time limit for all tries', async () => {
    const { tcti, commands } = await scripted(
      0x922,
      0x90a,
      0x908,
      0x920,
      0x923,
      ...Array<number>(40).fill(0x920),
    );
    expect(await transmitElsewhere({ tcti }, 10_000)).toEqual([0x923]);
    expect(commands).toEqual(Array(5).fill(0x182));
    expect(await transmitElsewhere({ tcti }, 200)).toEqual([0x920]);
    expect(commands.length).toBeGreaterThan(6);
  });
});

/** From another thread: this one plays the TPM. */
async function transmitElsewhere(channel: RawChannel, timeoutMilliseconds: number): Promise<number[]> {
  const workerData = { channel, pcr: 14, times: 1, timeoutMilliseconds };
  const worker = new Worker(new URL('./raw-sender.ts', import.meta.url), { workerData });
  const [codes] = (await once(worker, 'message')) as [number[]];
  await once(worker, 'exit');
  return codes;
}
