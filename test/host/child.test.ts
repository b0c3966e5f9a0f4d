import { randomFillSync } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { SecretArena } from '../../src/host/arena.ts';
import { requireChild, runChild } from '../../src/host/child.ts';

describe('another program', () => {
  it('gives back its output and exit status', async () => {
    const result = await runChild('sh', ['-c', 'echo out; echo err >&2; exit 7']);
    expect(result).toEqual({ status: 7, stdout: Buffer.from('out\n'), stderr: 'err\n' });
  });

  it('is given its arguments as they are: no shell reads them', async () => {
    const { stdout } = await runChild('printf', ['%s|', '$HOME', '; echo no', '*']);
    expect(stdout.toString()).toBe('$HOME|; echo no|*|');
  });

  it('is given the environment and the directory that it is told to have', async () => {
    const { stdout } = await runChild('sh', ['-c', 'echo "$ONLY $HOME"; pwd'], {
      env: { PATH: process.env.PATH, ONLY: 'this' },
      cwd: '/',
    });
    expect(stdout.toString()).toBe('this \n/\n');
  });

  it('reads its input, straight from the arena, as standard input or as the file /dev/stdin', async () => {
    using arena = SecretArena.allocate();
    using secret = arena.take(65_536, 'input');
    randomFillSync(secret.bytes);
    for (const command of [['-'], ['/dev/stdin']]) {
      const { stdout } = await runChild('cat', command, { input: secret.bytes });
      expect(Buffer.compare(stdout, secret.bytes)).toBe(0);
    }
  });

  it('finds an empty input where there is none', async () => {
    expect((await runChild('cat', [])).stdout).toHaveLength(0);
    expect((await runChild('cat', [], { input: new Uint8Array(0) })).stdout).toHaveLength(0);
  });

  it('is not started with more input than a pipe holds', () => {
    expect(() => runChild('cat', [], { input: new Uint8Array(65_537) })).toThrow(RangeError);
  });

  it('may leave without reading its input', async () => {
    expect((await runChild('true', [], { input: new Uint8Array(65_536) })).status).toBe(0);
  });

  it('leaves no descriptor open here', async () => {
    const open = (): number => readdirSync('/proc/self/fd').length;
    await runChild('cat', [], { input: new Uint8Array(10) });
    const before = open();
    for (let n = 0; n < 5; n += 1) await runChild('cat', [], { input: new Uint8Array(10) });
    await expect(runChild('ea-no-such-program', [], { input: new Uint8Array(10) })).rejects.toThrow();
    await vi.waitFor(() => expect(open()).toBe(before));
  });

  it('is killed when it takes too long, also where its own children hold on to its output', async () => {
    const pipes = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'PipeWrap').length;
    const before = pipes();
    const start = performance.now();
    const running = runChild('sh', ['-c', 'sleep 1 & wait'], { timeoutMilliseconds: 100 });
    await expect(running).rejects.toMatchObject({ code: 'program-timeout' });
    await vi.waitFor(() => expect(pipes()).toBe(before), { timeout: 500 });
    expect(performance.now() - start).toBeLessThan(900);
  });

  it('is killed when it floods', async () => {
    await expect(runChild('yes', [], { outputLimit: 100_000 })).rejects.toMatchObject({
      code: 'program-flooded',
    });
    const loud = await runChild('sh', ['-c', 'yes | head -c 300000 >&2']);
    expect(loud.status).toBe(0);
    expect(loud.stderr.length).toBeLessThan(65_536 + 300_000);
  });

  it('is named with a remedy when it is not installed', async () => {
    await expect(runChild('ea-no-such-program', [])).rejects.toMatchObject({
      code: 'program-missing',
      message: expect.stringContaining('ea-no-such-program'),
      remedy: expect.stringContaining('apt-get install'),
    });
  });

  it('is told apart from one that may not be run', async () => {
    await expect(runChild('/etc/passwd', [])).rejects.toMatchObject({ code: 'EACCES' });
  });

  it('is a failure with its last words, where success is required', async () => {
    await expect(requireChild('sh', ['-c', 'seq 9 >&2; exit 2'])).rejects.toMatchObject({
      code: 'program-failed',
      message: '`sh -c seq 9 >&2; exit 2` ended with 2: 7; 8; 9',
    });
    expect((await requireChild('echo', ['fine'])).stdout.toString()).toBe('fine\n');
  });
});
