// What killed processes leave in a TPM that has no resource manager in front of it: transient objects and sessions, of which
// it holds three each (TPM 2.0 Library, Part 1, sections 30 and 37). The kernel's /dev/tpmrm0 flushes them with the descriptor.
import type { Connection } from './connection.ts';
import { handlesFrom } from './properties.ts';
import { marshalFlush, RawTransport } from './raw.ts';

const firstTransient = 0x80000000;
const firstSession = 0x02000000;
/** A loaded session shows as what it is: HMAC or policy. */
const sessionKinds = [0x02, 0x03];
const timeLimitMilliseconds = 1000;

/** Flushes all of them, whoever loaded them; does nothing where the TPM is reached in another way than alone. */
export async function flushAbandoned(connection: Connection, tcti: string): Promise<void> {
  if (!/^(swtpm:|mssim:|device:\/dev\/tpm\d)/.test(tcti)) return;
  const abandoned = [
    ...(await handlesFrom(connection, firstSession, sessionKinds)),
    ...(await handlesFrom(connection, firstTransient)),
  ];
  using transport = new RawTransport({ tcti });
  const response = new Uint8Array(64);
  for (const handle of abandoned) transport.transmit(marshalFlush(handle), response, timeLimitMilliseconds);
}
