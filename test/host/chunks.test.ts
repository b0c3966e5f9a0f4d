import { closeSync, fstatSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { chunksOf } from '../../src/host/chunks.ts';
import { pipeEnds } from '../../src/host/pipe-ends.ts';
import { seededNoise } from '../lab/seeded.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-chunks-'));
afterAll(() => rmSync(directory, { recursive: true }));

function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

async function all(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const came: Buffer[] = [];
  for await (const chunk of chunks) came.push(Buffer.from(chunk));
  return Buffer.concat(came);
}

describe('chunks', () => {
  it.each([0, 1, 999, 1000, 1001, 54_321])(
    'of a file of %d bytes are all of it, in order',
    async (length) => {
      const path = join(directory, 'file');
      const bytes = seededNoise(length)(length);
      writeFileSync(path, bytes);
      const fd = openSync(path, 'r');
      expect((await all(chunksOf(fd, 1000))).equals(bytes)).toBe(true);
      await vi.waitFor(() => expect(isOpen(fd)).toBe(false));
    },
  );

  it.each([
    [0, 0],
    [0, 5000],
    [10, 10],
    [10, 4000],
    [999, 1000],
    [1, 1001],
  ])('from %d to %d of a file are that range', async (from, to) => {
    const path = join(directory, 'file');
    const bytes = seededNoise(7)(5000);
    writeFileSync(path, bytes);
    const fd = openSync(path, 'r');
    expect((await all(chunksOf(fd, 1000, { from, to }))).equals(bytes.subarray(from, to))).toBe(true);
    await vi.waitFor(() => expect(isOpen(fd)).toBe(false));
    const cut = chunksOf(openSync(path, 'r'), 1000, { from, to: 5001 });
    await expect(all(cut)).rejects.toThrow('became shorter');
  });

  it('of what cannot be read are an error, and it is closed', async () => {
    const fd = openSync(directory, 'r');
    await expect(chunksOf(fd, 1000).next()).rejects.toThrow('EISDIR');
    await vi.waitFor(() => expect(isOpen(fd)).toBe(false));
  });

  it('of a pipe come as they are written, and the pipe is closed when it has ended, though nobody asks any more', async () => {
    const { readEnd, writeEnd } = pipeEnds();
    writeSync(writeEnd, 'one');
    for await (const chunk of chunksOf(readEnd, 1000)) {
      expect(chunk.toString()).toBe('one');
      break;
    }
    expect(isOpen(readEnd)).toBe(true);
    closeSync(writeEnd);
    await vi.waitFor(() => expect(isOpen(readEnd)).toBe(false));
  });
});
