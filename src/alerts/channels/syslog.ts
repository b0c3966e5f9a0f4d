// syslog:// and syslog+tcp://: RFC 5424 messages over UDP (RFC 5426) or over TCP with octet counting (RFC 6587, section
// 3.4.1). Neither protocol acknowledges: delivered means handed to the network (UDP) or taken by the peer's kernel (TCP).
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, isIPv6 } from 'node:net';
import { type Alert, severityCode, truncate } from '../alert.ts';
import type { Channel } from '../channel.ts';
import { invalidChannel } from '../delivery-failure.ts';

/** "security/authorization messages", RFC 5424 table 1. */
const facility = 10;
/** What every receiver should accept (RFC 5424, section 6.1). */
const maxMessageBytes = 2048;
/** The enterprise number reserved for examples (RFC 5612), for want of one of our own. */
const enterprise = 32473;

/** `syslog[+tcp]://host[:port]`, port 514 unless told. */
export function openSyslog(url: URL): Channel {
  const example = 'syslog+tcp://host:514';
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (host === '' || url.username !== '' || url.password !== '' || !['', '/'].includes(url.pathname)) {
    throw invalidChannel('A syslog channel is a host and a port, without user or path.', example);
  }
  const port = url.port === '' ? 514 : Number(url.port);
  const tcp = url.protocol === 'syslog+tcp:';
  return {
    name: `${url.protocol}//${url.hostname}:${port}`,
    send: (alert, signal) => (tcp ? overTcp : overUdp)(host, port, formatMessage(alert), signal),
  };
}

/** One RFC 5424 message: header, the alert as structured data, then its title as UTF-8 text. */
export function formatMessage(alert: Alert): Buffer {
  const priority = facility * 8 + severityCode(alert.severity);
  const header = `<${priority}>1 ${alert.time} ${alert.node} esoteric-appliance - ${alert.key.slice(0, 32)}`;
  const message = (facts: [string, string][]): string => {
    const parameters = facts.map(([name, value]) => ` ${parameterName(name)}="${escaped(value)}"`).join('');
    return `${header} [alert@${enterprise}${parameters}] \uFEFF${alert.title}: ${alert.body}`;
  };
  const all = Object.entries({ ...alert.facts, key: alert.key });
  const full = message(all);
  // Cutting inside structured data would make the message malformed: rather leave out the facts.
  const fits = Buffer.byteLength(full) - Buffer.byteLength(alert.body) <= maxMessageBytes;
  return Buffer.from(truncate(fits ? full : message([['key', alert.key]]), maxMessageBytes));
}

/** SD-NAME: at most 32 printable ASCII characters but `=`, space, `]` and `"`. */
const parameterName = (name: string): string => name.replace(/[^\x21-\x7e]|[="\]]/g, '_').slice(0, 32) || '_';

/** PARAM-VALUE: `"`, `\` and `]` are escaped. */
const escaped = (value: string): string => value.replace(/["\\\]]/g, '\\$&');

async function overUdp(host: string, port: number, message: Buffer, signal: AbortSignal): Promise<void> {
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  try {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    socket.on('error', reject);
    socket.send(message, port, host, (error) => (error === null ? resolve() : reject(error)));
    await promise;
  } finally {
    socket.close();
  }
}

async function overTcp(host: string, port: number, message: Buffer, signal: AbortSignal): Promise<void> {
  const socket = connect({ host, port, signal });
  try {
    await once(socket, 'connect', { signal });
    socket.resume();
    socket.end(Buffer.concat([Buffer.from(`${message.length} `), message]));
    await once(socket, 'close', { signal });
  } finally {
    socket.destroy();
  }
}
