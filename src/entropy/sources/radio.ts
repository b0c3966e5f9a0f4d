// Radios: signal strengths that receivers report anyway. Nothing is sent and no scan is started. No machine of the tests has a
// radio: what is tested is the reading of recorded reports.
import { readFileSync } from 'node:fs';
import { readable, receiveNow, SOCK_RAW, unblocking } from '../../host/device-calls.ts';
import { Failure } from '../../host/failure.ts';
import { bind, close, setsockopt, socket } from '../../host/libc.ts';
import { type NoiseSource, unavailable } from '../source.ts';

/** Levels and discarded packets of /proc/net/wireless, one checksummed byte an interface. */
export function wirelessSamples(text: string): number[] {
  return text
    .split('\n')
    .slice(2)
    .flatMap((line) => {
      const [, fields] = line.split(/:\s*/);
      if (fields === undefined) return [];
      const numbers = fields
        .trim()
        .split(/\s+/)
        .slice(1)
        .map((field) => Math.round(Number.parseFloat(field)));
      return [numbers.reduce((sum, number) => (Math.imul(sum, 31) + number) | 0, 7) & 0xff];
    });
}

export function wifiSignal(path = '/proc/net/wireless'): NoiseSource {
  const read = (): number[] => {
    try {
      return wirelessSamples(readFileSync(path, 'utf8'));
    } catch {
      return [];
    }
  };
  return {
    name: 'wifi-signal',
    family: 'network',
    physical: 'level, noise and lost packets that the Wi-Fi receiver reports: fading, interference',
    pace: 'patient',
    exercised: 'recorded',
    available: () =>
      read().length > 0
        ? { ok: true }
        : unavailable('no Wi-Fi interface is up', 'Bring one up; it need not be connected.'),
    open: () => ({
      sample(into) {
        const samples = read().slice(0, into.length);
        into.set(samples);
        return samples.length;
      },
      [Symbol.dispose]() {},
    }),
  };
}

const AF_BLUETOOTH = 31;
const BTPROTO_HCI = 1;
const SOL_HCI = 0;
const HCI_FILTER = 2;
const eventPacket = 4;
const metaEvent = 0x3e;
const advertisingReport = 0x02;

/** The signal strengths (dBm, as a byte) in an HCI event packet of LE advertising reports (Core 5.4, 4.E.7.7.65.2). */
export function advertisedStrengths(packet: Uint8Array): number[] {
  if (packet[0] !== eventPacket || packet[1] !== metaEvent || packet[3] !== advertisingReport) return [];
  const strengths: number[] = [];
  let at = 5;
  for (let report = 0; report < (packet[4] ?? 0); report++) {
    const dataLength = packet[at + 8];
    if (dataLength === undefined) break;
    const strength = packet[at + 9 + dataLength];
    if (strength === undefined) break;
    strengths.push(strength);
    at += 10 + dataLength;
  }
  return strengths;
}

/** Passive: hears the reports of a scan that somebody else runs. */
export const bluetoothSignal: NoiseSource = {
  name: 'bluetooth-signal',
  family: 'hardware',
  physical: 'strength at which Bluetooth advertisements arrive: fading, interference, people moving',
  pace: 'patient',
  exercised: 'recorded',
  available() {
    const fd = socket(AF_BLUETOOTH, SOCK_RAW | unblocking, BTPROTO_HCI);
    if (fd < 0) return unavailable('the kernel has no Bluetooth', 'Load the driver of an adapter (btusb).');
    const usable = bindToAdapter(fd);
    close(fd);
    return usable
      ? { ok: true }
      : unavailable(
          'there is no Bluetooth adapter, or it may not be listened to',
          'Plug one in, and grant CAP_NET_RAW.',
        );
  },
  open() {
    const fd = socket(AF_BLUETOOTH, SOCK_RAW | unblocking, BTPROTO_HCI);
    if (fd < 0 || !bindToAdapter(fd)) throw new Failure('source-gone', 'The Bluetooth adapter is gone.');
    const packet = new Uint8Array(260);
    return {
      sample(into) {
        let count = 0;
        while (count < into.length && readable(fd, count === 0 ? 5 : 0)) {
          const length = receiveNow(fd, packet);
          if (length < 0) throw new Failure('source-gone', 'The Bluetooth adapter is gone.');
          if (length === 0) break;
          for (const strength of advertisedStrengths(packet.subarray(0, length))) {
            if (count < into.length) into[count++] = strength;
          }
        }
        return count;
      },
      [Symbol.dispose]() {
        close(fd);
      },
    };
  },
};

/** The first adapter, event packets only (`struct sockaddr_hci`, `struct hci_filter`). */
function bindToAdapter(fd: number): boolean {
  const address = new Uint8Array(6);
  address[0] = AF_BLUETOOTH;
  const filter = new Uint8Array(16);
  filter[0] = 1 << eventPacket;
  filter.fill(0xff, 4, 12);
  return bind(fd, address, address.length) === 0 && setsockopt(fd, SOL_HCI, HCI_FILTER, filter, 14) === 0;
}
