// Worker of raw.test.ts: extends a PCR a number of times past ESYS, as the interlock's thread does.
import { parentPort, workerData } from 'node:worker_threads';
import { marshalPcrExtend, type RawChannel, RawTransport } from '../../src/tpm/raw.ts';

const { channel, pcr, times, timeoutMilliseconds } = workerData as {
  channel: RawChannel;
  pcr: number;
  times: number;
  timeoutMilliseconds: number;
};
using transport = new RawTransport(channel);
const command = marshalPcrExtend(pcr, new Uint8Array(32).fill(0xee));
const response = new Uint8Array(4096);
const codes = Array.from({ length: times }, () => transport.transmit(command, response, timeoutMilliseconds));
parentPort?.postMessage(codes);
