// Microphone, camera, GPU: opened only where the configuration names them (the GPU: unless --no-gpu). No machine of the tests has
// one; the reading of captured samples is tested on recordings. arecord (alsa-utils) and v4l2-ctl (v4l-utils) do the capturing.
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, closeSync, constants, existsSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { ioctl, readable } from '../../host/device-calls.ts';
import { Failure } from '../../host/failure.ts';
import { close } from '../../host/libc.ts';
import { pipeEnds } from '../../host/pipe-ends.ts';
import { type Availability, availableIf, type NoiseSource, type Sampler, unavailable } from '../source.ts';
import { timedSource } from './timed.ts';

const O_NONBLOCK = 0o4000;
const patienceMilliseconds = 20;

/** The low bytes of signed 16-bit samples: below them the converter's own noise, above them the room. */
export function audioSamples(recorded: Uint8Array, into: Uint8Array): number {
  const count = Math.min(into.length, recorded.length >> 1);
  for (let i = 0; i < count; i++) into[i] = recorded[2 * i] ?? 0;
  return count;
}

/** Every 97th byte of a picture, so that neighbours, which the demosaicing made alike, are not taken. */
export function pictureSamples(recorded: Uint8Array, into: Uint8Array): number {
  const count = Math.min(into.length, Math.floor(recorded.length / 97));
  for (let i = 0; i < count; i++) into[i] = recorded[97 * i] ?? 0;
  return count;
}

export function audioNoise(device: string | undefined): NoiseSource {
  return captured({
    name: 'audio-noise',
    physical: 'thermal noise of the converter and its amplifier: low byte of 16-bit samples',
    key: 'audio_device',
    device,
    program: 'arecord',
    words: ['-q', '-D', device ?? '', '-t', 'raw', '-f', 'S16_LE', '-r', '48000', '-c', '1'],
    take: audioSamples,
  });
}

export function cameraNoise(device: string | undefined): NoiseSource {
  return captured({
    name: 'camera-noise',
    physical: 'shot noise and dark current of the image sensor: scattered bytes of raw pictures',
    key: 'camera_device',
    device,
    program: 'v4l2-ctl',
    words: ['-d', device ?? '', '--stream-mmap', '--stream-count=0', '--stream-to=-'],
    take: pictureSamples,
  });
}

interface Captured {
  readonly name: string;
  readonly physical: string;
  readonly key: string;
  readonly device: string | undefined;
  readonly program: string;
  readonly words: readonly string[];
  readonly take: (recorded: Uint8Array, into: Uint8Array) => number;
}

function captured(spec: Captured): NoiseSource {
  const { name, physical, program, words, take } = spec;
  return {
    name,
    family: 'hardware',
    physical,
    pace: 'patient',
    exercised: 'recorded',
    available: () => captureAvailable(spec),
    open: () => programSampler(program, words, take),
  };
}

function captureAvailable({ device, key, program }: Captured): Availability {
  if (device === undefined || device === '')
    return unavailable('no device is configured', `Name it in entropy.${key}; nothing is opened unasked.`);
  const folders = (process.env.PATH ?? '').split(':');
  if (!folders.some((folder) => existsSync(join(folder, program))))
    return unavailable(`${program} is not installed`, `apt-get install the package that has ${program}.`);
  return device.startsWith('/') && !existsSync(device)
    ? unavailable(`there is no ${device}`, `Correct entropy.${key}.`)
    : { ok: true };
}

/** What a program writes to its standard output, through a pipe that is read without waiting for long. */
export function programSampler(
  program: string,
  words: readonly string[],
  take: (recorded: Uint8Array, into: Uint8Array) => number,
): Sampler {
  const { readEnd, writeEnd } = pipeEnds(O_NONBLOCK);
  const child: ChildProcess = spawn(program, words, { stdio: ['ignore', writeEnd, 'ignore'] });
  child.on('error', () => {});
  close(writeEnd);
  const recorded = new Uint8Array(65_536);
  return {
    sample(into) {
      if (!readable(readEnd, patienceMilliseconds)) return 0;
      const length = readNow(readEnd, recorded);
      if (length === 0) throw new Failure('source-gone', `${program} has ended.`);
      return length < 0 ? 0 : take(recorded.subarray(0, length), into);
    },
    [Symbol.dispose]() {
      child.kill('SIGKILL');
      close(readEnd);
      recorded.fill(0);
    },
  };
}

/** -1 where nothing is there just now. */
export function readNow(fd: number, into: Uint8Array): number {
  try {
    return readSync(fd, into);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return -1;
    throw error;
  }
}

/** DRM_IOCTL_GET_CAP of the buffer capability: the shortest way into the driver. */
const drmGetCap = 0xc010640c;

export function gpuTiming(allowed: boolean, directory = '/dev/dri'): NoiseSource {
  const node = (): string | undefined => {
    try {
      return readdirSync(directory).find((name) => name.startsWith('renderD'));
    } catch {
      return undefined;
    }
  };
  return timedSource({
    name: 'gpu-timing',
    family: 'hardware',
    physical: 'how long the driver of the GPU takes to answer: its locks, its power states, its bus',
    pace: 'patient',
    exercised: 'recorded',
    samplesAtOnce: 256,
    available() {
      if (!allowed) return unavailable('left alone because of --no-gpu', 'Leave the option out.');
      const found = node();
      if (found === undefined) return unavailable('there is no GPU', 'None is needed.');
      return availableIf(
        () => accessSync(join(directory, found), constants.R_OK | constants.W_OK),
        (reason) => `${join(directory, found)} cannot be opened (${reason})`,
        'Add the user of the service to the group "render".',
      );
    },
    prepare() {
      const fd = openSync(join(directory, node() ?? ''), constants.O_RDWR);
      const request = new Uint8Array(16);
      request[0] = 1;
      return { act: () => void ioctl(fd, drmGetCap, request), release: () => closeSync(fd) };
    },
  });
}
