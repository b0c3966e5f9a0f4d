import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { serveFifo } from '../../../src/entropy/outputs/fifo.ts';
import { zeroizedFailure } from '../../../src/host/failure.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-fifo-'));
afterAll(() => rmSync(directory, { recursive: true }));
let paths = 0;

function serving(read = (out: Uint8Array): unknown => out.fill(7), bufferSize?: number) {
  const path = join(directory, `random-${paths++}`);
  const stop = new AbortController();
  const ready = Promise.withResolvers<void>();
  const served = serveFifo(path, (out) => void read(out), {
    signal: stop.signal,
    bufferSize,
    onReady: ready.resolve,
  });
  return { path, served, ready: Promise.race([ready.promise, served]), stop: () => stop.abort() };
}

async function readBy(program: string, ...args: string[]): Promise<number> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  let bytes = 0;
  child.stdout.on('data', (part: Buffer) => {
    bytes += part.length;
  });
  await once(child, 'close');
  return bytes;
}

describe('random bytes at a path', () => {
  it('come to many readers, one after another and at once, and outlive their deaths', async () => {
    const { path, served, ready, stop } = serving();
    await ready;
    expect(statSync(path).isFIFO()).toBe(true);
    expect(await readBy('head', '-c', '100000', path)).toBe(100_000);
    const dying = spawn('sleep', ['60'], {
      stdio: [openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), 'ignore', 'ignore'],
    });
    dying.kill('SIGKILL');
    const both = await Promise.all([
      readBy('head', '-c', '50000', path),
      readBy('head', '-c', '70000', path),
    ]);
    expect(both).toEqual([50_000, 70_000]);
    stop();
    expect(await served).toBeGreaterThanOrEqual(220_000);
    expect(existsSync(path)).toBe(false);
  });

  it('wait in the kernel, as many as asked for and no more, while nobody reads', async () => {
    let made = 0;
    const { served, ready, stop } = serving((out) => {
      made += out.length;
      return out.fill(7);
    }, 4096);
    await ready;
    await sleep(200);
    const before = made;
    await sleep(200);
    expect(made - before).toBeLessThan(64);
    expect(made).toBeLessThan(64 << 10);
    stop();
    await served;
  });

  it('are taken back when output must stop, whoever has the FIFO open', async () => {
    let zeroized = false;
    const { path, served, ready } = serving((out) => {
      if (zeroized) throw zeroizedFailure('Random output');
      return out.fill(7);
    });
    await ready;
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    await sleep(50);
    zeroized = true;
    await expect(served).rejects.toThrow(expect.objectContaining({ code: 'zeroized' }));
    expect(readSync(reader, new Uint8Array(100))).toBe(0);
    closeSync(reader);
    expect(existsSync(path)).toBe(false);
  });

  it('never replace a file, and do replace the FIFO of a run that was killed', async () => {
    const taken = join(directory, 'a-file');
    writeFileSync(taken, 'precious');
    const signal = AbortSignal.abort();
    await expect(serveFifo(taken, () => {}, { signal })).rejects.toThrow(
      expect.objectContaining({ code: 'path-taken' }),
    );
    await expect(serveFifo('/proc/nowhere/x', () => {}, { signal })).rejects.toThrow(
      expect.objectContaining({ code: 'fifo-failed' }),
    );
    const left = join(directory, 'left');
    await once(spawn('mkfifo', [left]), 'exit');
    expect(await serveFifo(left, () => {}, { signal })).toBe(0);
  });
});
