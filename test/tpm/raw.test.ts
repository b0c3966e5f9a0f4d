import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import { marshalNvIncrement, marshalPcrExtend, RawTransport } from '../../src/tpm/raw.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const counter = 0x01800001;

describe('the way past ESYS', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-raw-'));
  let swtpm: Swtpm;
  let tpm: Tpm;
  const response = new Uint8Array(4096);
  beforeAll(async () => {
    swtpm = await startSwtpm(directory);
    tpm = await openTpm({ tcti: swtpm.tcti });
  });
  afterAll(async () => {
    await tpm?.close();
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('extends a PCR from another thread while this one keeps the TPM busy', async () => {
    const times = 20;
    const worker = new Worker(new URL('./raw-sender.ts', import.meta.url), {
      workerData: { channel: structuredClone(tpm.rawChannel()), pcr: 13, times, timeoutMilliseconds: 3000 },
    });
    let codes: number[] | undefined;
    worker.on('message', (message: number[]) => {
      codes = message;
    });
    const ended = once(worker, 'exit');
    let commands = 0;
    while (codes === undefined) {
      expect(await tpm.getRandom(32)).toHaveLength(32);
      commands++;
    }
    await ended;
    expect(codes).toEqual(Array(times).fill(0));
    expect(commands).toBeGreaterThan(1);
    let expected = Buffer.alloc(32);
    for (let done = 0; done < times; done++) {
      expected = createHash('sha256').update(expected).update(Buffer.alloc(32, 0xee)).digest();
    }
    expect(Buffer.from((await tpm.pcrRead('sha256', [13])).get(13) ?? [])).toEqual(expected);
  });

  it('does not wait for a main thread that has asked and does not look at the answer', async () => {
    using raw = new RawTransport(tpm.rawChannel());
    const asked = tpm.getRandom(32); // Sent in the microtasks below; its answer is read only after they end.
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    const start = performance.now();
    expect(raw.transmit(marshalPcrExtend(12, new Uint8Array(32)), response, 2000)).toBe(0);
    expect(performance.now() - start).toBeLessThan(1000);
    expect(await asked).toHaveLength(32);
  });

  it('increments the armed counter', async () => {
    await tpm.nvDefine(counter, { attributes: 'counter', byteLength: 8 });
    await tpm.nvIncrement(counter);
    const before = await tpm.nvReadCounter(counter);
    using raw = new RawTransport(tpm.rawChannel());
    expect(raw.transmit(marshalNvIncrement(counter), response, 2000)).toBe(0);
    expect(await tpm.nvReadCounter(counter)).toBe(before + 1n);
  });

  it('returns the response code of a refused command', () => {
    using raw = new RawTransport(tpm.rawChannel());
    expect(raw.transmit(marshalNvIncrement(0x01800fff), response, 2000)).toBe(0x28b);
  });

  it('works through a TCTI module of tpm2-tss as well', () => {
    process.env.TCTI_PCAP_FILE = join(directory, 'raw.pcap');
    using raw = new RawTransport({ tcti: `pcap:${swtpm.tcti}` });
    expect(raw.transmit(marshalPcrExtend(11, new Uint8Array(32)), response, 2000)).toBe(0);
  });

  it('gives up within its time limit when the TPM hangs', async () => {
    using raw = new RawTransport(tpm.rawChannel());
    process.kill(swtpm.pid, 'SIGSTOP');
    try {
      const start = performance.now();
      expect(() => raw.transmit(marshalPcrExtend(11, new Uint8Array(32)), response, 200)).toThrow(
        expect.objectContaining({ code: 'tpm-timeout' }),
      );
      expect(performance.now() - start).toBeLessThan(1000);
    } finally {
      process.kill(swtpm.pid, 'SIGCONT');
    }
    expect(await tpm.getRandom(1)).toHaveLength(1);
  });
});
