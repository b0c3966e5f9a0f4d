// What the channels over HTTP share: an address without credentials in it, one POST, and the meaning of its status
// (RFC 9110, sections 10.2.3 and 15).
import { DeliveryFailure, invalidChannel } from '../delivery-failure.ts';

export interface HttpAddress {
  /** http: or https:, with path and query, without user and password. */
  readonly url: URL;
  readonly user: string;
  readonly password: string;
  /** `scheme://host[:port]/…`: path and query are often the secret of a webhook. */
  readonly name: string;
}

const longestRetryAfter = 3_600_000;

/** @throws Failure `channel-invalid`. */
export function httpAddress(channel: URL, secure: boolean, example: string): HttpAddress {
  const scheme = channel.protocol.slice(0, -1);
  const address = `${secure ? 'https' : 'http'}://${channel.host}${channel.pathname}${channel.search}`;
  if (channel.host === '' || !URL.canParse(address)) {
    throw invalidChannel(`The ${scheme}:// channel has no usable host.`, example);
  }
  if (/[@#]/.test(`${channel.pathname}${channel.search}${channel.hash}`)) {
    // A password with a raw slash ends the host early: what follows, shown as a host, would be part of it.
    throw invalidChannel(
      `The ${scheme}:// channel has an @ or # after its host. Write / as %2F, @ as %40, # as %23.`,
      example,
    );
  }
  return {
    url: new URL(address),
    user: decodePart(channel.username, scheme, example),
    password: decodePart(channel.password, scheme, example),
    name: `${scheme}://${channel.host}/…`,
  };
}

/** @throws Failure `channel-invalid` for a `%` that starts no escape. */
export function decodePart(part: string, scheme: string, example: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw invalidChannel(`The ${scheme}:// channel has a % that is not an escape; write it %25.`, example);
  }
}

/** The header of HTTP Basic (RFC 7617), or none without a user. */
export const basicAuthorization = ({ user, password }: HttpAddress): Record<string, string> =>
  user === '' && password === ''
    ? {}
    : { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };

/** Sends and waits for a 2xx. Redirects are refused: they would carry the alert, or a token, elsewhere. */
export async function post(
  address: HttpAddress,
  headers: Record<string, string>,
  body: string,
  key: string,
  signal: AbortSignal,
): Promise<void> {
  const response = await fetch(address.url, {
    method: 'POST',
    redirect: 'manual',
    headers: { 'idempotency-key': key, 'user-agent': 'esoteric-appliance', ...headers },
    body,
    signal,
  });
  await response.body?.cancel().catch(() => {}); // The status is the acknowledgement.
  if (response.ok) return;
  const said = `${address.name} answered ${response.status}.`;
  if (isPermanent(response.status)) throw DeliveryFailure.refused(said);
  throw DeliveryFailure.unavailable(
    said,
    retryAfterMilliseconds(response.headers.get('retry-after'), Date.now()),
  );
}

/** A client error stays one, but for those that ask for patience: 408, 425, 429. So does a redirect. */
export const isPermanent = (status: number): boolean =>
  status >= 300 && status < 500 && ![408, 425, 429].includes(status);

/** Seconds or an HTTP date, as milliseconds from `now`; at most an hour, 0 when absent or meaningless. */
export function retryAfterMilliseconds(header: string | null, now: number): number {
  const text = header?.trim() ?? '';
  const wait = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isNaN(wait) ? 0 : Math.min(Math.max(wait, 0), longestRetryAfter);
}
