// Hardware generators: /dev/hwrng and the TPM's. Their inside is not ours to assess (in a virtual machine it is whatever the host
// says), so they are mixed in and not credited.
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { Failure } from '../../host/failure.ts';
import { RawTransport } from '../../tpm/raw.ts';
import { availableIf, type NoiseSource, unavailable } from '../source.ts';
import { readNow } from './capture.ts';

const bytesAtOnce = 64;

export function hwrng(path = '/dev/hwrng'): NoiseSource {
  const open = (): number => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return {
    name: 'hwrng',
    family: 'generator',
    physical: 'whatever the device behind the kernel driver measures',
    pace: 'patient',
    exercised: 'live',
    available() {
      try {
        const fd = open();
        try {
          readSync(fd, new Uint8Array(1));
        } finally {
          closeSync(fd);
        }
        return { ok: true };
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EAGAIN') return { ok: true };
        return unavailable(
          code === 'ENOENT' ? `there is no ${path}` : `${path} cannot be read (${code ?? 'unknown'})`,
          'Load the driver of the device, and give the service read access to it.',
        );
      }
    },
    open() {
      const fd = open();
      return {
        sample: (into) => Math.max(0, readNow(fd, into.subarray(0, bytesAtOnce))),
        [Symbol.dispose]() {
          closeSync(fd);
        },
      };
    },
  };
}

const timeoutMilliseconds = 2000;
/** TPM2_GetRandom of 32 bytes (Part 3, section 16.1): tag, size, code, count. */
const getRandom = Uint8Array.of(0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 32);
const headLength = 12;

/** `tcti`: as the configuration names the TPM; undefined without one. */
export function tpmRandom(tcti: string | undefined): NoiseSource {
  const ask = (transport: RawTransport, response: Uint8Array): number => {
    const code = transport.transmit(getRandom, response, timeoutMilliseconds);
    if (code !== 0) throw new Failure('source-gone', `The TPM refused GetRandom (0x${code.toString(16)}).`);
    return new DataView(response.buffer, response.byteOffset).getUint16(headLength - 2);
  };
  return {
    name: 'tpm-random',
    family: 'generator',
    physical: 'the generator inside the TPM; its answer crosses the bus in clear',
    pace: 'patient',
    exercised: 'live',
    available() {
      if (tcti === undefined)
        return unavailable('no TPM is configured', 'Set tpm.mode, or leave out --no-tpm.');
      return availableIf(
        () => {
          using transport = new RawTransport({ tcti });
          ask(transport, new Uint8Array(4096));
        },
        (reason) => `the TPM does not answer (${reason})`,
        '`esoteric-appliance doctor` says more.',
      );
    },
    open() {
      const transport = new RawTransport({ tcti: tcti ?? '' });
      const response = new Uint8Array(4096);
      return {
        sample(into) {
          const count = Math.min(into.length, ask(transport, response));
          into.set(response.subarray(headLength, headLength + count));
          response.fill(0);
          return count;
        },
        [Symbol.dispose]() {
          transport[Symbol.dispose]();
        },
      };
    },
  };
}
