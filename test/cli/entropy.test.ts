// The commands of the entropy side as whole processes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { openRandom } from '../../src/appliance/random.ts';
import { labNode, Scratch, until } from '../appliance/scene.ts';
import { esoteric, esotericJson, esotericWords } from '../lab/node.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const state = ['--no-tpm', '--no-sigstore', '--state-dir', scratch.at('state')];

const scanned = z.array(
  z.looseObject({
    name: z.string(),
    family: z.string(),
    physical: z.string().min(10),
    available: z.boolean(),
    exercised: z.enum(['live', 'recorded']),
    pace: z.enum(['quick', 'patient']),
    credit: z.number().min(0),
    policyCredit: z.number().min(0),
    assessment: z.looseObject({ kind: z.string(), minEntropy: z.number() }).nullable(),
  }),
);

/** A command that runs until it is told to stop. */
function running(...args: string[]) {
  const [program = '', ...words] = esotericWords([...args, ...state]);
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (part: Buffer) => {
    log += part.toString();
  });
  return {
    child,
    said: (pattern: RegExp) =>
      until(`${args[0]} says ${pattern}`, () => pattern.exec(log) ?? undefined, 30_000),
    async stop(): Promise<number | null> {
      if (child.exitCode !== null) return child.exitCode;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      return ((await ended) as [number | null])[0];
    },
  };
}

describe('scan', () => {
  it('lists at least thirty sources, each with a reason and a remedy where it is not here', async () => {
    const sources = scanned.parse(await esotericJson(['scan', '-I', 'CPU', ...state]));
    expect(sources.length).toBeGreaterThanOrEqual(30);
    for (const source of sources.filter(({ available }) => !available)) {
      expect(source).toMatchObject({
        why: expect.any(String),
        remedy: expect.stringMatching(/\.$/),
        credit: 0,
      });
    }
    const { stdout } = await esoteric(['scan', ...state]);
    expect(stdout.toString()).toMatch(/gpu-timing .*\n/);
    expect(stdout.toString()).toContain('Not exercised on hardware');
  });
});

describe('probe', () => {
  it('assesses a source, keeps what it found, and the next scan counts it', async () => {
    const extent = ['--samples', '20000', '--restarts', '100', '--each', '100'];
    const result = await esotericJson<{ credit: number; kept: string; histogram: number[] }>([
      ...['probe', 'page-mapping', ...extent, ...state],
    ]);
    // No state directory is made for it.
    expect(result.kept === null || existsSync(result.kept)).toBe(true);
    expect(result.histogram.reduce((sum, count) => sum + count, 0)).toBe(20_000);
    const text = (await esoteric(['probe', 'page-mapping', ...extent, ...state])).stdout.toString();
    expect(text).toMatch(/literal most common value +\d/);
    expect(text).toMatch(/restart test +(passed|failed)/);
    const sources = scanned.parse(await esotericJson(['scan', ...state]));
    expect(sources.find(({ name }) => name === 'page-mapping')).toMatchObject({
      credit: result.credit,
      assessment: { kind: 'brief', samples: 20_000 },
    });
  });

  it("records raw samples in the format of NIST's tools, and overwrites nothing", async () => {
    const file = scratch.at('samples.bin');
    const words = [
      'probe',
      'clock-jitter',
      '--record',
      file,
      '--samples',
      '5000',
      '--restarts',
      '20',
      '--each',
      '30',
      ...state,
    ];
    expect(await esotericJson(words)).toMatchObject({ file, samples: 5000, restarts: 20, each: 30 });
    expect(statSync(file)).toMatchObject({ size: 5000 });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(`${file}.restarts`).size).toBe(600);
    expect((await esoteric(words)).status).toBe(1);
  });

  it.each([
    [['probe', 'clock-jiter'], 2, /no noise source "clock-jiter"/],
    [['probe', 'gpu-timing', '--no-gpu'], 1, /--no-gpu/],
    [['probe', 'clock-jitter', '--samples', '7'], 2, /--samples takes a number from/],
    [['probe', 'clock-jitter', '--samples', '2000', '--seconds', '0'], 2, /--seconds/],
  ])('refuses %j', async (words, status, says) => {
    const result = await esoteric([...words, ...state]);
    expect(result.status).toBe(status);
    expect(result.stderr).toMatch(says);
  });
});

describe('stream', () => {
  it.each([
    ['hex', /^([0-9a-f]{64}\n)+[0-9a-f]{8}\n$/, 'hex'],
    ['base64', /^[A-Za-z0-9+/\n]+=*\n$/, 'base64'],
  ] as const)('writes %s', async (format, shape, encoding) => {
    const { stdout } = await esoteric(['stream', '--bytes', '100', '--format', format, ...state]);
    expect(stdout.toString()).toMatch(shape);
    expect(Buffer.from(stdout.toString().replaceAll('\n', ''), encoding)).toHaveLength(100);
  });

  it('keeps to its rate', async () => {
    const began = performance.now();
    const { stdout } = await esoteric(['stream', '--bytes', '3K', '--rate', '2K', ...state]);
    expect(stdout).toHaveLength(3072);
    expect(performance.now() - began).toBeGreaterThan(1000);
  });

  it('gives samples of one source in named modes, and says that these are not for keys', async () => {
    const words = ['stream', '--bytes', '500', '--sources', 'page-mapping', ...state];
    for (const mode of ['raw', 'xor-fold', 'von-neumann']) {
      const { stdout, stderr } = await esoteric([...words, '--mode', mode]);
      expect(stdout).toHaveLength(500);
      expect(stderr).toContain('NOT FOR KEYS');
    }
    expect((await esoteric(['stream', '--bytes', '1', '--mode', 'raw', ...state])).status).toBe(2);
    const unseeded = await esoteric(['stream', '--bytes', '1', '--sources', 'vmstat', ...state]);
    expect([unseeded.status, unseeded.stdout.length]).toEqual([4, 0]);
    expect((await esoteric(['stream', '--bytes', '1', '--rate', '0', ...state])).status).toBe(2);
  });
});

describe('a stream whose node is zeroized meanwhile', () => {
  it.each([
    ['drbg', []],
    ['raw', ['--mode', 'raw', '--sources', 'page-mapping']],
  ])('ends with status 4, although nobody reads: %s', async (mode, words) => {
    const directory = scratch.at(`stream-${mode}`);
    mkdirSync(directory);
    const [program = '', ...rest] = esotericWords([
      ...['stream', '--bytes', '1G', '--rate', '10M', ...words, '--no-tpm', '--state-dir', directory],
    ]);
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...rest], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const ended = once(child, 'exit');
    await once(child.stdout, 'readable');
    writeFileSync(join(directory, 'state.json'), '{"state":"zeroized"}');
    expect(((await ended) as [number | null])[0]).toBe(4);
  });
});

describe('device', () => {
  it.each(['0', '4G'])('refuses a buffer of %s before it gathers anything', async (size) => {
    const result = await esoteric(['device', scratch.at('none'), '--buffer-size', size, ...state]);
    expect(result.status).toBe(2);
    expect(result.stderr).toContain('--buffer-size takes at');
  });

  it('keeps a FIFO full until it is stopped, and removes it', async () => {
    const path = scratch.at('random');
    const device = running('device', path, '--buffer-size', '16K', '--json');
    await device.said(/Random bytes at/);
    const reader = spawn('head', ['-c', '300000', path], { stdio: ['ignore', 'pipe', 'ignore'] });
    let bytes = 0;
    reader.stdout.on('data', (part: Buffer) => {
      bytes += part.length;
    });
    await once(reader, 'close');
    expect(bytes).toBe(300_000);
    expect(await device.stop()).toBe(0);
    expect(existsSync(path)).toBe(false);
  });
});

describe('server', () => {
  it('serves numbers and its state on the loopback, and ends when told', async () => {
    const server = running('server', '--port', '0', '--cors', '*', '--sources', 'silicon,timing');
    const [, url = ''] = await server.said(/Serving on (http:\S+)\//);
    const numbers = await fetch(`${url}/api/v1/random?length=5&type=uint16`);
    expect(numbers.headers.get('access-control-allow-origin')).toBe('*');
    expect(await numbers.json()).toMatchObject({ success: true, length: 5, data: expect.any(Array) });
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect(await (await fetch(`${url}/pool/status`)).json()).toMatchObject({ state: 'serving' });
    expect(await server.stop()).toBe(0);
  });

  it.each([
    [['--host', '0.0.0.0'], /TLS|clear/],
    [['--tls-cert', 'x'], /belong together/],
    [['--port', '70000'], /--port takes/],
    [['--token-file', '/nonexistent'], /cannot be read/],
  ])('refuses %j before it gathers anything', async (words, says) => {
    const { status, stderr } = await esoteric(['server', ...words, ...state]);
    expect(status).toBe(2);
    expect(stderr).toMatch(says);
  });

  it('refuses a token that can be guessed', async () => {
    const file = scratch.at('token');
    writeFileSync(file, 'short\n');
    expect((await esoteric(['server', '--token-file', file, ...state])).stderr).toContain('fewer than 16');
  });
});

describe('report', () => {
  it('writes HTML, or Markdown with its plots', async () => {
    const html = scratch.at('report.html');
    const words = ['--source', 'clock-jitter,gpu-timing', '--samples', '3000', '--no-gpu', ...state];
    expect(await esotericJson(['report', '--output', html, ...words])).toMatchObject({
      files: [html],
      sources: [{ name: 'clock-jitter' }],
      missing: [{ name: 'gpu-timing' }],
    });
    expect(readFileSync(html, 'utf8').match(/<svg/g)).toHaveLength(4);
    const { stdout } = await esoteric(['report', '--output', scratch.at('report.md'), ...words]);
    expect(stdout.toString()).toContain('4 plots');
    expect(readdirSync(scratch.path).filter((name) => name.endsWith('.svg'))).toHaveLength(4);
    expect((await esoteric(['report', '--output', scratch.at('report.pdf'), ...words])).status).toBe(2);
  });
});

describe('a running node', () => {
  it('shows its pool with a grade, tests a source on demand, and takes its other outputs along when zeroized', {
    timeout: 90_000,
  }, async () => {
    await using node = await labNode(scratch, 'pool', { configuration: '' });
    await node.ask(['provision']);
    await node.run();
    const report = await node.ask<{
      grade: { letter: string; because: string[] };
      sources: { name: string; samples: number }[];
    }>(['pool']);
    expect(report.grade.letter).toMatch(/^[A-F]$/);
    expect(report.grade.because.length).toBeGreaterThan(0);
    expect(existsSync(`${node.stateDirectory}/seed`)).toBe(true);
    await node.ask(['pool', '--restart', 'page-fault-timing']);
    const { stdout } = await esoteric(['pool', ...node.arguments]);
    expect(stdout.toString()).toMatch(/grade +[A-F] /);
    const refused = await esoteric(['pool', '--restart', 'dice', ...node.arguments]);
    expect(refused.status).toBe(2);
    expect(
      (await esoteric(['stream', '--bytes', '50', '--format', 'hex', ...node.arguments])).stdout.toString(),
    ).toHaveLength(102);
    const [program = '', ...words] = esotericWords(['device', scratch.at('node-random'), ...node.arguments]);
    const device = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...words], { stdio: 'ignore' });
    const ended = once(device, 'exit');
    await until('the FIFO is there', () => existsSync(scratch.at('node-random')) || undefined);
    await node.ask(['zeroize', '--reason', 'a test']);
    expect(((await ended) as [number | null])[0]).toBe(4);
    expect(existsSync(scratch.at('node-random'))).toBe(false);
    await node.stop();
    const state = await esoteric(['pool', ...node.arguments]);
    expect(state.status).toBe(1);
    await expect(
      openRandom({ stateDirectory: node.stateDirectory, allowSwappable: true }),
    ).rejects.toMatchObject({ code: 'zeroized' });
  });
});

describe('the JavaScript API', () => {
  it('gives random values from a pool of its own, and none after its node is zeroized or it is closed', async () => {
    const stateDirectory = scratch.at('api');
    mkdirSync(stateDirectory);
    const random = await openRandom({
      stateDirectory,
      allowSwappable: true,
      sources: ['silicon'],
    });
    expect(random.integers(1, 7, 100).every((value) => value >= 1 && value <= 6)).toBe(true);
    expect(random.bytes(16)).toHaveLength(16);
    expect(random.status().state).toBe('serving');
    writeFileSync(join(stateDirectory, 'state.json'), '{"state":"zeroized"}');
    await until('it has heard of the zeroize', () => random.status().state === 'zeroized' || undefined);
    expect(() => random.uint32()).toThrow(expect.objectContaining({ code: 'zeroized' }));
    await random[Symbol.asyncDispose]();
    expect(() => random.uint32()).toThrow(expect.objectContaining({ code: 'entropy-stopped' }));
  });
});
