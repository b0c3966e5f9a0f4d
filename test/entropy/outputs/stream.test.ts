import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { streamRandom } from '../../../src/entropy/outputs/stream.ts';
import { zeroizedFailure } from '../../../src/host/failure.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-stream-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** Runs the stream in a process of its own with `shell` around it, reading a counter instead of noise. */
function inPipe(bytes: string, after: string, options = '{}'): { stdout: string; stderr: string } {
  const script = join(directory, 'stream.mts');
  const module = new URL('../../../src/entropy/outputs/stream.ts', import.meta.url).href;
  writeFileSync(
    script,
    `import { streamRandom } from ${JSON.stringify(module)};
     const taken = await streamRandom((out) => out.fill(7), ${bytes}, 1, ${options});
     process.stderr.write(String(taken));`,
  );
  return spawnSync('sh', ['-c', `"$0" "$1" | ${after}`, process.execPath, script], { encoding: 'utf8' });
}

async function toFile(
  read: (out: Uint8Array) => void,
  bytes: number | null,
): Promise<{ taken: number; content: Buffer }> {
  const path = join(directory, 'out');
  const fd = openSync(path, 'w');
  try {
    return { taken: await streamRandom(read, bytes, fd), content: readFileSync(path) };
  } finally {
    closeSync(fd);
  }
}

describe('a stream', () => {
  it.each([0, 1, 262_144, 1_000_003])('writes exactly %d bytes', async (bytes) => {
    let next = 0;
    const { taken, content } = await toFile((out) => {
      for (let i = 0; i < out.length; i++) out[i] = next++ & 0xff;
    }, bytes);
    expect(taken).toBe(bytes);
    expect(content.length).toBe(bytes);
    expect(content.every((byte, i) => byte === (i & 0xff))).toBe(true);
  });

  it('ends with the failure of a zeroize in the middle', async () => {
    let blocks = 0;
    const read = (out: Uint8Array): void => {
      if (++blocks === 4) throw zeroizedFailure('Random output');
      out.fill(1);
    };
    await expect(toFile(read, null)).rejects.toThrow(
      expect.objectContaining({ code: 'zeroized', status: 4 }),
    );
    expect(readFileSync(join(directory, 'out')).length).toBe(3 * 1_048_576);
  });

  it('ends quietly when the reader of the pipe leaves', () => {
    const { stdout, stderr } = inPipe('null', 'head -c 300000 | wc -c');
    expect(stdout.trim()).toBe('300000');
    expect(Number(stderr)).toBeGreaterThanOrEqual(300_000);
  });

  it('waits for a slow reader', () => {
    const { stdout, stderr } = inPipe('3_000_000', '(sleep 0.3; wc -c)');
    expect(stdout.trim()).toBe('3000000');
    expect(stderr).toBe('3000000');
  });

  it('keeps back what is left of a block once nothing may be given out any more, however slow the reader', () => {
    const admit = `{ admit() {
      globalThis.began ??= performance.now();
      if (performance.now() - began < 300) return;
      process.stderr.write('kept');
      process.exit(4);
    } }`;
    const { stdout, stderr } = inPipe('3_000_000', '(sleep 1.5; wc -c)', admit);
    expect(stderr).toBe('kept');
    expect(Number(stdout)).toBeGreaterThan(0);
    // What the kernel had taken.
    expect(Number(stdout)).toBeLessThanOrEqual(65_536);
  });

  it('lets the event loop run meanwhile', async () => {
    let ticks = 0;
    const timer = setInterval(() => {
      ticks += 1;
    }, 5);
    const begun = performance.now();
    const fd = openSync('/dev/null', 'w');
    await expect(
      streamRandom(
        () => {
          if (performance.now() - begun > 300) throw new Error('enough');
        },
        null,
        fd,
      ),
    ).rejects.toThrow('enough');
    closeSync(fd);
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(2);
  });

  it('hands on the error of a descriptor that cannot be written', async () => {
    const fd = openSync('/dev/null', 'r');
    await expect(streamRandom((out) => out.fill(1), 10, fd)).rejects.toThrow('EBADF');
    closeSync(fd);
  });
});
