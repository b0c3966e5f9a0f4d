import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterAll, describe, expect, it, onTestFinished } from 'vitest';
import { noiseSources } from '../../src/entropy/catalogue.ts';
import { families, type NoiseSource } from '../../src/entropy/source.ts';
import {
  audioNoise,
  audioSamples,
  gpuTiming,
  pictureSamples,
  programSampler,
} from '../../src/entropy/sources/capture.ts';
import { device, serialLine } from '../../src/entropy/sources/devices.ts';
import { diskTiming } from '../../src/entropy/sources/disk.ts';
import { hwrng, tpmRandom } from '../../src/entropy/sources/generators.ts';
import { dnsTiming, endpoints, tcpTiming } from '../../src/entropy/sources/network.ts';
import { packetTiming } from '../../src/entropy/sources/packets.ts';
import { advertisedStrengths, wifiSignal, wirelessSamples } from '../../src/entropy/sources/radio.ts';
import { hwmonSensors, sysWalk } from '../../src/entropy/sources/sensors.ts';
import { socketAddress } from '../../src/host/device-calls.ts';
import { startSwtpm } from '../lab/swtpm.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-sources-'));
const disk = join(directory, 'disk');
mkdirSync(disk);
afterAll(() => rmSync(directory, { recursive: true }));

/** Asks until so many samples have come; what did not come in time is left out. */
function take(source: NoiseSource, count: number, calls = 2000): Uint8Array {
  using sampler = source.open();
  const samples = new Uint8Array(count);
  let taken = 0;
  for (let call = 0; taken < count && call < calls; call++) taken += sampler.sample(samples.subarray(taken));
  return samples.subarray(0, taken);
}
const whyNot = (source: NoiseSource): string => {
  const availability = source.available();
  expect(availability.ok).toBe(false);
  if (availability.ok) return '';
  expect(availability.remedy).toMatch(/\.$/);
  return availability.why;
};

describe('noise sources', () => {
  const sources = noiseSources({ directory: disk, interfaces: ['CPU'] });

  it('are at least thirty, of every family, each with a name of its own', () => {
    expect(sources.length).toBeGreaterThanOrEqual(30);
    expect(new Set(sources.map(({ name }) => name)).size).toBe(sources.length);
    expect(new Set(sources.map(({ family }) => family))).toEqual(new Set(families));
  });

  it.each(sources.filter((source) => source.available().ok))(
    '$name gives raw samples that vary, each call in bounded time, and leaves no file',
    (source) => {
      using sampler = source.open();
      const samples = new Uint8Array(512);
      let count = 0;
      const deadline = performance.now() + 3000;
      while (count < samples.length && performance.now() < deadline) {
        const begun = performance.now();
        const taken = sampler.sample(samples.subarray(count));
        expect(performance.now() - begun).toBeLessThan(3000);
        expect(taken).toBeLessThanOrEqual(samples.length - count);
        count += taken;
      }
      expect(count).toBeGreaterThan(0);
      if (count === samples.length) expect(new Set(samples).size).toBeGreaterThan(1);
      expect(readdirSync(disk)).toEqual([]);
    },
  );

  it('say why they are not there and what to do', () => {
    expect(whyNot(hwrng('/nonexistent/hwrng'))).toBe('there is no /nonexistent/hwrng');
    expect(whyNot(hwrng('/proc/self'))).toContain('cannot be read');
    expect(whyNot(diskTiming('/nonexistent'))).toContain('/nonexistent');
    expect(whyNot(audioNoise(''))).toBe('no device is configured');
    expect(whyNot(gpuTiming(false))).toContain('--no-gpu');
    expect(whyNot(gpuTiming(true, '/nonexistent'))).toBe('there is no GPU');
    expect(whyNot(dnsTiming([]))).toBe('no host is configured');
    expect(whyNot(tcpTiming(['localhost:80']))).toContain('localhost:80');
    expect(whyNot(device('/dev/urandom'))).toContain("kernel's own");
    expect(whyNot(device('/nonexistent'))).toContain('/nonexistent');
    expect(whyNot(packetTiming('nosuch0'))).toContain('nosuch0');
    expect(whyNot(wifiSignal('/nonexistent'))).toContain('Wi-Fi');
    expect(whyNot(hwmonSensors('/nonexistent'))).toContain('sensor');
    expect(whyNot(sysWalk('/nonexistent'))).toContain('/nonexistent');
    expect(whyNot(tpmRandom(undefined))).toContain('no TPM');
    expect(whyNot(tpmRandom('swtpm:path=/nonexistent'))).toContain('does not answer');
  });
});

describe('sources of configured hosts', () => {
  it('time a query and its answer, and nobody else is spoken to', async () => {
    const echo = new Worker(
      `const server = require('node:dgram').createSocket('udp4');
       server.on('message', (query, { port, address }) => server.send(query, port, address));
       server.bind(0, '127.0.0.1', () => require('node:worker_threads').parentPort.postMessage(server.address().port));`,
      { eval: true, execArgv: [] },
    );
    const [port] = (await once(echo, 'message')) as [number];
    const samples = take(dnsTiming([`127.0.0.1:${port}`]), 16, 100);
    await echo.terminate();
    expect(samples.length).toBe(16);
    expect(new Set(samples).size).toBeGreaterThan(4);
  });

  it('time a connection', async () => {
    const server = createServer((socket) => socket.destroy());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    expect(take(tcpTiming([`127.0.0.1:${port}`]), 4, 10).length).toBe(4);
    server.close();
  });

  it('read addresses as the kernel wants them, and take nothing else for one', () => {
    expect(
      endpoints(['192.0.2.7:53', '[2001:db8::7]:53', 'name:53', '1.2.3.4', '1.2.3.4:99999']).map(
        ({ text }) => text,
      ),
    ).toEqual(['192.0.2.7:53', '[2001:db8::7]:53']);
    expect([...(socketAddress('192.0.2.7', 53) ?? [])].slice(0, 8)).toEqual([2, 0, 0, 53, 192, 0, 2, 7]);
    const six = socketAddress('2001:db8::7', 53) ?? new Uint8Array();
    expect(Buffer.from(six.subarray(8, 24)).toString('hex')).toBe('20010db8000000000000000000000007');
    fc.assert(
      fc.property(fc.ipV6(), (host) => {
        const address = socketAddress(host, 1);
        expect(address === undefined || address.length === 28).toBe(true);
      }),
    );
  });
});

describe('external sources', () => {
  it('hand on what a FIFO gives, wait while it gives nothing, and do not end with its writer', async () => {
    const path = join(directory, 'fifo');
    await once(spawn('mkfifo', [path]), 'exit');
    using sampler = device(path).open();
    const into = new Uint8Array(16);
    expect(sampler.sample(into)).toBe(0);
    const writer = openSync(path, 'r+');
    writeSync(writer, Uint8Array.of(1, 2, 3));
    expect(sampler.sample(into)).toBe(3);
    expect([...into.subarray(0, 3)]).toEqual([1, 2, 3]);
    closeSync(writer);
    expect(sampler.sample(into)).toBe(0);
  });

  it('refuse a serial line that is none', () => {
    const path = join(directory, 'plain');
    writeFileSync(path, 'x');
    expect(() => serialLine(`${path}@9600`).open()).toThrow('not a serial line');
    expect(serialLine('/dev/ttyACM0').name).toBe('serial:/dev/ttyACM0');
  });

  it('hwrng hands on what the device gives, and fails when the device is gone', () => {
    const path = join(directory, 'device');
    writeFileSync(path, Buffer.alloc(100, 7));
    const into = new Uint8Array(1024);
    const sampler = hwrng(path).open();
    expect(sampler.sample(into)).toBe(64);
    expect(into.subarray(0, 64).every((byte) => byte === 7)).toBe(true);
    sampler[Symbol.dispose]();
    expect(() => sampler.sample(into)).toThrow();
  });

  it('the TPM gives random bytes over a channel of its own', async () => {
    const tpm = await startSwtpm(mkdtempSync(join(directory, 'tpm-')));
    onTestFinished(() => tpm.stop());
    const source = tpmRandom(tpm.tcti);
    expect(source.available()).toEqual({ ok: true });
    const samples = take(source, 64);
    expect(samples.length).toBe(64);
    expect(new Set(samples).size).toBeGreaterThan(16);
  });
});

describe('sources that no machine of the tests has, on recorded samples', () => {
  it('are named so', () => {
    const recorded = noiseSources({ directory: disk }).filter(({ exercised }) => exercised === 'recorded');
    expect(recorded.map(({ name }) => name).sort()).toEqual([
      'audio-noise',
      'bluetooth-signal',
      'camera-noise',
      'gpu-timing',
      'hwmon-sensors',
      'wifi-signal',
    ]);
  });

  it('Wi-Fi: a sample an interface, which changes with the level', () => {
    const report = (level: number): string =>
      `Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n wlan0: 0000   54.  ${level}.  -256        0      0      0      3     41        0\n`;
    expect(wirelessSamples(report(-56))).toHaveLength(1);
    expect(wirelessSamples(report(-56))).not.toEqual(wirelessSamples(report(-57)));
    expect(wirelessSamples('')).toEqual([]);
  });

  it('Bluetooth: the strength of each advertisement in an event, and nothing of a damaged one', () => {
    const event = Uint8Array.of(4, 0x3e, 14, 2, 1, 0, 1, 1, 2, 3, 4, 5, 6, 2, 0xaa, 0xbb, 0xc4);
    // subevent, one report: type, address type, 6 bytes of address, 2 bytes of data, strength
    const wellFormed = Uint8Array.of(4, 0x3e, 14, 2, 1, 0, 1, 1, 2, 3, 4, 5, 6, 2, 0xaa, 0xbb, 0xc4);
    expect(advertisedStrengths(wellFormed)).toEqual([0xc4]);
    expect(advertisedStrengths(event.subarray(0, 15))).toEqual([]);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        expect(advertisedStrengths(bytes).length).toBeLessThan(64);
      }),
    );
  });

  it('microphone and camera: low bytes, scattered bytes, through a program and its pipe', async () => {
    const into = new Uint8Array(4);
    expect(audioSamples(Uint8Array.of(1, 255, 2, 255, 3, 0), into)).toBe(3);
    expect([...into]).toEqual([1, 2, 3, 0]);
    expect(
      pictureSamples(
        new Uint8Array(970).map((_, i) => i % 97),
        into,
      ),
    ).toBe(4);
    using sampler = programSampler('sh', ['-c', 'printf abcdef; exec sleep 60'], audioSamples);
    let taken = 0;
    for (let i = 0; i < 200 && taken === 0; i++) {
      taken = sampler.sample(into);
      await sleep(5);
    }
    expect(Buffer.from(into.subarray(0, taken)).toString()).toBe('ace');
    expect(() => {
      using ended = programSampler('true', [], audioSamples);
      for (let i = 0; i < 500; i++) ended.sample(into);
    }).toThrow('has ended');
  });

  it('sensor chips: checksums of what they measure', () => {
    const chip = join(directory, 'hwmon', 'hwmon0');
    mkdirSync(chip, { recursive: true });
    writeFileSync(join(chip, 'temp1_input'), '41250\n');
    writeFileSync(join(chip, 'name'), 'coretemp\n');
    expect(take(hwmonSensors(join(directory, 'hwmon')), 8, 20).length).toBe(8);
  });
});
