// External noise: any device or FIFO (`device:/dev/…`), and a serial line as a microcontroller has one (`serial:/dev/…`). What comes is
// taken as it is; nobody here knows what it measures, so it is mixed in and credited only after an assessment.
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { makeSerial, readable } from '../../host/device-calls.ts';
import { Failure } from '../../host/failure.ts';
import { type Availability, availableIf, type NoiseSource, type Sampler, unavailable } from '../source.ts';
import { readNow } from './capture.ts';

const patienceMilliseconds = 5;
/** Never opened as a noise source: they give out what this program or the kernel has already conditioned. */
const circular = ['/dev/random', '/dev/urandom'];

export function device(path: string): NoiseSource {
  return {
    name: `device:${path}`,
    family: 'external',
    physical: `whatever writes to ${path}`,
    pace: 'patient',
    exercised: 'live',
    available() {
      if (circular.includes(path))
        return unavailable(
          `${path} is the kernel's own generator`,
          'It is mixed in anyway, and never counted.',
        );
      return readableAt(path);
    },
    open: () => descriptorSampler(openNow(path), path),
  };
}

const defaultBaud = 115_200;

/** `line`: a path, or `path@baud`. */
export function serialLine(line: string): NoiseSource {
  const [path = '', baud = String(defaultBaud)] = line.split('@');
  return {
    name: `serial:${path}`,
    family: 'external',
    physical: `whatever is behind the serial line ${path}, at ${baud} baud`,
    pace: 'patient',
    exercised: 'live',
    available: () => readableAt(path),
    open() {
      const fd = openNow(path);
      if (makeSerial(fd, Number(baud))) return descriptorSampler(fd, path);
      closeSync(fd);
      throw new Failure('source-gone', `${path} is not a serial line.`);
    },
  };
}

/** Read and write, so that a FIFO whose writer leaves does not end; where that is refused, read only. */
function openNow(path: string): number {
  const flags = constants.O_NONBLOCK | constants.O_NOCTTY;
  try {
    return openSync(path, constants.O_RDWR | flags);
  } catch {
    return openSync(path, constants.O_RDONLY | flags);
  }
}

function readableAt(path: string): Availability {
  return availableIf(
    () => closeSync(openNow(path)),
    (reason) => (reason === 'ENOENT' ? `there is no ${path}` : `${path} cannot be opened (${reason})`),
    'Plug it in, correct the path, or give the service access to it.',
  );
}

function descriptorSampler(fd: number, path: string): Sampler {
  const endless = !fstatSync(fd).isFile();
  return {
    sample(into) {
      if (into.length === 0 || !readable(fd, patienceMilliseconds)) return 0;
      const length = readNow(fd, into);
      if (length === 0 && endless) throw new Failure('source-gone', `${path} has ended.`);
      return Math.max(0, length);
    },
    [Symbol.dispose]() {
      closeSync(fd);
    },
  };
}
