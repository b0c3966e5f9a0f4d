// The parts of a file, whoever asks for them.
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { PartReader } from '../../src/forensics/part-reader.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-part-reader-'));
afterAll(() => rmSync(directory, { recursive: true }));
const content = randomBytes(10_000);

function fileOf(name: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

describe('parts', () => {
  it('come in order to four who ask at once, and are measured as one', async () => {
    await using reader = await PartReader.of(fileOf('four'), content.length, 900);
    const buffers = Array.from({ length: 4 }, () => Buffer.alloc(reader.partBytes));
    const taken: Buffer[] = [];
    const ask = async (into: Buffer): Promise<void> => {
      for (let part = await reader.next(into); part !== undefined; part = await reader.next(into))
        taken[part.number - 1] = Buffer.from(part.bytes);
    };
    await Promise.all(buffers.map(ask));
    expect(taken).toHaveLength(12);
    expect(Buffer.concat(taken).equals(content)).toBe(true);
    expect(reader.measured()).toEqual({
      sha256: createHash('sha256').update(content).digest('hex'),
      crc32: crc32(content),
    });
  });

  it('end where the file was said to end, though it has grown', async () => {
    await using reader = await PartReader.of(fileOf('grown'), 1000, 900);
    const into = Buffer.alloc(reader.partBytes);
    expect([await reader.next(into), await reader.next(into), await reader.next(into)]).toMatchObject([
      { number: 1 },
      { number: 2, bytes: { length: 100 } },
      undefined,
    ]);
  });

  it('of a file that has become shorter, or cannot be read, are a Failure', async () => {
    const path = fileOf('shorter');
    await using shorter = await PartReader.of(path, content.length, 900);
    truncateSync(path, 1000);
    const into = Buffer.alloc(900);
    expect(await shorter.next(into)).toMatchObject({ number: 1 });
    await expect(shorter.next(into)).rejects.toMatchObject({ code: 'upload-source-missing' });
    await using unreadable = await PartReader.of(directory, 1000, 900);
    await expect(unreadable.next(into)).rejects.toMatchObject({
      code: 'upload-source-missing',
      message: expect.stringContaining('EISDIR') as string,
    });
    await expect(PartReader.of(join(directory, 'nothing'), 1000, 900)).rejects.toMatchObject({
      code: 'upload-source-missing',
    });
  });
});
