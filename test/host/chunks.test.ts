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

describe('chunks', () => {
  it.each([0, 1, 999, 1000, 1001, 54_321])(
    'of a file of %d bytes are all of it, in order',
    async (length) => {
      const path = join(directory, 'file');
      const bytes = seededNoise(length)(length);
      writeFileSync(path, bytes);
      const fd = openSync(path, 'r');
      const came: Buffer[] = [];
      for await (const chunk of chunksOf(fd, 1000)) came.push(Buffer.from(chunk));
      expect(Buffer.concat(came).equals(bytes)).toBe(true);
      await vi.waitFor(() => expect(isOpen(fd)).toBe(false));
    },
  );

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
