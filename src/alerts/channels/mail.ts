// mailto:// and mailtos://: mail by SMTP submission (RFC 6409), STARTTLS or implicit TLS (RFC 8314).
import { Socket } from 'node:net';
import { type Alert, alertText, atLeast, titleLine } from '../alert.ts';
import type { Channel } from '../channel.ts';
import { DeliveryFailure, errorWord, invalidChannel } from '../delivery-failure.ts';
import { decodePart } from './http.ts';

const example = 'mailto://user:password@smtp.example.org/oncall@example.org';
const maxSubjectBytes = 200;
const maxMessageBytes = 32_768;
/** Milliseconds after which a silent server's connection is dropped, should `signal` not have closed it. */
const patience = 10_000;
const loopback = /^(127\.|localhost$|\[::1\]$)/;

/**
 * `mailto[s]://[user:password@]server[:port]/recipient[,recipient][?from=address]`. Port 587 with STARTTLS, or 465 for
 * `mailtos`. Credentials travel only under TLS, unless the server is on the loopback.
 */
export function openMail(url: URL): Channel {
  const scheme = url.protocol.slice(0, -1);
  const secure = scheme === 'mailtos';
  const recipients = decodePart(url.pathname.slice(1), scheme, example).split(',');
  const from = url.searchParams.get('from') ?? recipients[0] ?? '';
  if (url.hostname === '') throw invalidChannel(`The ${scheme}:// channel has no server.`, example);
  if (![...recipients, from].every((address) => /^[^\s@<>"/:]+@[^\s@<>"/:]+$/.test(address))) {
    throw invalidChannel(`The ${scheme}:// channel needs mail addresses as its path.`, example);
  }
  const port = url.port === '' ? (secure ? 465 : 587) : Number(url.port);
  const user = decodePart(url.username, scheme, example);
  const pass = decodePart(url.password, scheme, example);
  const name = `${scheme}://${url.hostname}:${port}/${recipients.join(',')}`;
  const server = {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port,
    secure,
    requireTLS: !secure && user !== '' && !loopback.test(url.hostname),
    connectionTimeout: patience,
    greetingTimeout: patience,
    socketTimeout: patience,
    ...(user === '' ? {} : { auth: { user, pass } }),
  };
  return {
    name,
    async send(alert, signal) {
      const { createTransport } = await import('nodemailer');
      const socket = new Socket(); // Ours, so that it can be closed at any moment of the dialogue.
      const abandon = (): void => void socket.destroy();
      signal.addEventListener('abort', abandon, { once: true });
      try {
        await createTransport({ ...server, socket }).sendMail({
          from,
          to: recipients,
          ...mailOf(alert, from),
        });
      } catch (error) {
        throw failureOf(error, name);
      } finally {
        signal.removeEventListener('abort', abandon);
        socket.destroy();
      }
    },
  };
}

/** A repeat carries the same Message-ID, so that a mail server or reader can drop it. */
const mailOf = (alert: Alert, from: string) => ({
  messageId: `<${alert.key.replaceAll('@', '.')}.alert@${from.slice(from.indexOf('@') + 1)}>`,
  subject: `[${alert.severity}] ${titleLine(alert, maxSubjectBytes)} (${alert.key})`,
  text: alertText(alert, maxMessageBytes),
  priority: atLeast(alert.severity, 'error') ? ('high' as const) : ('normal' as const),
  headers: { 'auto-submitted': 'auto-generated' },
});

/** A 5xx reply of SMTP is final (RFC 5321, section 4.2.1); all else may pass. */
function failureOf(error: unknown, name: string): DeliveryFailure {
  const { responseCode } = error as { responseCode?: unknown };
  return typeof responseCode === 'number' && responseCode >= 500
    ? DeliveryFailure.refused(`${name} answered ${responseCode}.`)
    : DeliveryFailure.unavailable(`${name} did not take the mail (${errorWord(error)}).`);
}
