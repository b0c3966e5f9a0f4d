// ntfy:// and ntfys://: publishing to an ntfy server (docs.ntfy.sh/publish): the body is the message, the rest is headers.
import { type Alert, alertText, type Severity, titleLine } from '../alert.ts';
import type { Channel } from '../channel.ts';
import { invalidChannel } from '../delivery-failure.ts';
import { basicAuthorization, type HttpAddress, httpAddress, post } from './http.ts';

const example = 'ntfys://host/topic';
const maxTitleBytes = 250;
/** Beyond it a server turns the message into an attachment. */
const maxMessageBytes = 4096;

const priorities: Readonly<Record<Severity, '1' | '2' | '3' | '4' | '5'>> = {
  emergency: '5',
  alert: '5',
  critical: '5',
  error: '4',
  warning: '3',
  notice: '3',
  informational: '2',
  debug: '1',
};

/** `ntfy[s]://[user:password@|:token@]host[:port]/topic`. The topic works like a password and is never shown. */
export function openNtfy(url: URL): Channel {
  const address = httpAddress(url, url.protocol === 'ntfys:', example);
  if (!/^\/[^/]+$/.test(address.url.pathname)) {
    throw invalidChannel('An ntfy channel needs one topic as its path.', example);
  }
  return {
    name: address.name,
    send: (alert, signal) =>
      post(
        address,
        { ...headersOf(alert), ...authorization(address) },
        alertText(alert, maxMessageBytes),
        alert.key,
        signal,
      ),
  };
}

const headersOf = (alert: Alert): Record<string, string> => ({
  'content-type': 'text/plain; charset=utf-8',
  title: encodedWord(titleLine(alert, maxTitleBytes)),
  priority: priorities[alert.severity],
  tags: [alert.severity, alert.node, alert.key].join(','),
});

/** An access token stands alone (`:token@` or `tk_…@`); a user has a password. */
function authorization(address: HttpAddress): Record<string, string> {
  const { user, password } = address;
  if (user === '' && password !== '') return { authorization: `Bearer ${password}` };
  if (password === '' && user.startsWith('tk_')) return { authorization: `Bearer ${user}` };
  return basicAuthorization(address);
}

/** Headers are ASCII; other text travels as an encoded word (RFC 2047), which ntfy decodes. */
const encodedWord = (text: string): string =>
  /^[\x20-\x7e]*$/.test(text) ? text : `=?UTF-8?B?${Buffer.from(text).toString('base64')}?=`;
